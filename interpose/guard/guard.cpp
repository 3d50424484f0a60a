#include "interpose/guard/guard.h"

#include <fmt/format.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "interpose/listener.h"
#include "pool/guard.h"

namespace flexlom::guard {

namespace {

int thread_id() noexcept {
  thread_local const int id __attribute__((tls_model("initial-exec"))) =
      static_cast<int>(syscall(SYS_gettid));
  return id;
}

}  // namespace

bool is_fault(CUresult r) noexcept {
  switch (r) {
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_ASSERT:
      return true;
    default:
      return false;
  }
}

Guard::Guard(Listener& listener, uint32_t pattern, bool fill)
    : listener_(listener), contents_(pattern, fill), since_ns_(pool::ThreadSync::now_ns()) {}

Who Guard::who(const char* call) const {
  Who who;
  who.call = call;
  who.tid = thread_id();
  who.at_ns = pool::ThreadSync::now_ns() - since_ns_;
  who.stack = stacks_ != nullptr ? stacks_->current() : 0;
  return who;
}

void Guard::allocated(const pool::Request& request, const pool::AllocationInfo& info,
                      bool) noexcept {
  try {
    ledger_.allocated(info, who(request.call));
  } catch (...) {
    // Without host memory a report names one allocation less.
  }
}

void Guard::freed(const char* call, const pool::AllocationInfo& info, pool::StreamKey) noexcept {
  try {
    ledger_.freed(info, who(call), launches_.last());
  } catch (...) {
  }
}

void Guard::retiring(const pool::AllocationInfo& info) noexcept {
  if (broken_.load(std::memory_order_relaxed)) return;
  // The fence has passed what was running at the free.
  launches_.over(ledger_.find(info.base).block.launches);
  CUresult error = CUDA_SUCCESS;
  const auto damage = contents_.check(info.context, info.base, info.asked_bytes, &error);
  answered("a look at freed memory", error);
  if (!damage) return;
  try {
    report_damage(ledger_.find(info.base).block, *damage, "seen when it was freed");
  } catch (...) {
  }
}

void Guard::check_all() noexcept {
  if (broken_.load(std::memory_order_relaxed)) return;
  try {
    for (const Block& block : ledger_.live()) {
      CUresult error = CUDA_SUCCESS;
      const auto damage = contents_.check(block.context, block.base, block.bytes, &error);
      answered("the end of the process", error);
      if (error != CUDA_SUCCESS) return;  // nor would the others be told
      if (damage) report_damage(block, *damage, "seen at the end of the process");
    }
  } catch (...) {
  }
}

uint64_t Guard::submitting(doors::Entry entry, const heat::Named& named, const Shape& shape,
                           CUcontext context, uint64_t stream) noexcept {
  try {
    return launches_.add(entry, named, shape, context, stream, thread_id(),
                         pool::ThreadSync::now_ns() - since_ns_);
  } catch (...) {
    return 0;
  }
}

void Guard::submitted(doors::Entry entry, uint64_t number, CUresult r) noexcept {
  if (r == CUDA_SUCCESS) [[likely]]
    return launches_.entered(number);
  // A call that waits ran, and may be what failed; one that only launches was not taken.
  if (number != 0) launches_.refused(number);
  answered(doors::entry_info[doors::index_of(entry)].name, r);
}

void Guard::synchronized(doors::Entry entry, CUcontext context, const uint64_t* stream,
                         uint64_t number, CUresult r) noexcept {
  if (r != CUDA_SUCCESS) return answered(doors::entry_info[doors::index_of(entry)].name, r);
  try {
    stream != nullptr ? launches_.over(context, *stream, number) : launches_.over(context, number);
    look_at_reads(context, stream);
  } catch (...) {
  }
}

void Guard::will_read_back(const ReadBack& copy) noexcept {
  constexpr size_t kMost = 64;
  if (!contents_.fills()) return;
  try {
    std::lock_guard lock(reads_mutex_);
    reads_.push_back(copy);
    if (reads_.size() > kMost) reads_.pop_front();
  } catch (...) {
  }
}

// What was copied may be gone by now, the memory itself included: it is read as if by another
// process, which cannot fault.
void Guard::look_at_reads(CUcontext context, const uint64_t* stream) {
  std::vector<ReadBack> over;
  {
    std::lock_guard lock(reads_mutex_);
    std::erase_if(reads_, [&](const ReadBack& copy) {
      const bool waited = copy.context == context && (stream == nullptr || copy.stream == *stream);
      if (waited) over.push_back(copy);
      return waited;
    });
  }
  for (ReadBack copy : over) {
    // The start of it tells most of them apart, and all of a large one is not read for this.
    unsigned char bytes[4096];
    const size_t take = std::min(copy.bytes, sizeof bytes);
    iovec here{bytes, take}, there{const_cast<void*>(copy.host), take};
    if (process_vm_readv(getpid(), &here, 1, &there, 1, 0) != static_cast<ssize_t>(take)) continue;
    copy.host = bytes;
    copy.bytes = take;
    read_back(copy);
  }
}

void Guard::answered(const char* call, CUresult r) noexcept {
  if (!is_fault(r) || broken_.exchange(true)) return;
  try {
    report_fault(call, r);
  } catch (...) {
    say("a kernel has failed; out of host memory for the report");
  }
  listener_.flush_log();  // programs often end at once after this
}

}  // namespace flexlom::guard
