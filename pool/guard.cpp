#include "pool/guard.h"

#include <algorithm>

#include "pool/check.h"

namespace flexlom::pool {

Guard::Guard(AddressSpace& space, Observer* observer) : space_(space), observer_(observer) {
  space_.take(1);  // the guard before the first allocation
}

uint32_t Guard::take(uint32_t count) {
  for (;;) {
    const uint32_t first = space_.take(count + 1);
    if (first != AddressSpace::kNone || unused_.empty()) return first;
    if (!told_ && observer_ != nullptr) {
      observer_->warned(
          "guard: the address space is used up; addresses of freed memory are used again, oldest "
          "first, so that late uses of it may go unseen");
    }
    told_ = true;
    const Run oldest = unused_.front();
    unused_.pop_front();
    space_.give(oldest.first, oldest.count);
  }
}

void Guard::give_last(uint32_t first, uint32_t count) {
  unused_.push_back({first, count + 1});
  FLEXLOM_INVARIANT(is_valid());
}

void Guard::retire(Object* object) {
  std::lock_guard lock(mutex_);
  retired_.push_back(object);
}

Object* Guard::next_retired(const Fence& fence) {
  std::lock_guard lock(mutex_);
  // Not only the first: an old epoch that cannot be proven yet must not keep what needs no proof.
  const auto found = std::find_if(retired_.begin(), retired_.end(),
                                  [&](const Object* o) { return fence.passed(o->epoch); });
  if (found == retired_.end()) return nullptr;
  Object* object = *found;
  retired_.erase(found);
  return object;
}

uint64_t Guard::newest_epoch() const {
  std::lock_guard lock(mutex_);
  uint64_t newest = 0;
  for (const Object* object : retired_) newest = std::max(newest, object->epoch);
  return newest;
}

// No run that waits lies in another's, and none is outside the space.
bool Guard::is_valid() const {
  const Run& last = unused_.back();
  if (uint64_t{last.first} + last.count > space_.granules()) return false;
  for (size_t i = 0; i + 1 < unused_.size(); ++i) {
    const Run& run = unused_[i];
    if (run.first < last.first + last.count && last.first < run.first + run.count) return false;
  }
  return true;
}

}  // namespace flexlom::pool
