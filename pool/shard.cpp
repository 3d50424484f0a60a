#include "pool/shard.h"

#include "pool/check.h"

namespace flexlom::pool {

namespace {
// How many pending objects are looked at for one freed on the caller's own stream.
constexpr int kStreamScan = 8;
}  // namespace

Shard::List& Shard::list(SizeKey key) {
  if (key.small) return small_[key.value];
  if (key.value <= kDirect) return large_[key.value];
  return huge_[key.value];
}

Shard::List& Shard::list_of(const Span& span) {
  if (span.small) return small_[span.size_class];
  if (span.listed_spilled) return spilled_[span.count];
  return list({false, span.count});
}

template <class F>
void Shard::each_list(F&& f) {
  for (List& l : small_) f(l);
  for (List& l : large_) f(l);
  for (auto& [count, l] : huge_) f(l);
  for (auto& [count, l] : spilled_) f(l);
}

void Shard::harvest(List& list, const Fence& fence) {
  while (list.pending_head != nullptr && fence.passed(list.pending_head->epoch)) {
    Object* object = list.pending_head;
    list.pending_head = object->next;
    if (list.pending_head == nullptr) list.pending_tail = nullptr;
    --list.pending_count;
    --stats.pending_objects;
    object->state = ObjectState::fresh;
    object->next = list.ready;
    list.ready = object;
    --object->span->objects_used;
  }
}

Object* Shard::take_ready(List& list) {
  Object* object = list.ready;
  if (object == nullptr) return nullptr;
  FLEXLOM_INVARIANT(object->state == ObjectState::fresh);
  list.ready = object->next;
  object->next = nullptr;
  ++object->span->objects_used;
  unlist(*object->span);
  return object;
}

// What is counted off is what was counted on: a page may have moved in between.
void Shard::unlist(Span& span) {
  stats.cached_bytes -= span.listed_device_bytes;
  span.listed_device_bytes = 0;
}

Object* Shard::pop(SizeKey key, StreamKey stream, const Fence& fence) {
  List& l = list(key);
  if (l.ready == nullptr && l.pending_head != nullptr) {
    if (stream != 0) {
      Object* before = nullptr;
      Object* object = l.pending_head;
      for (int i = 0; object != nullptr && i < kStreamScan; ++i) {
        if (object->stream == stream) {
          (before != nullptr ? before->next : l.pending_head) = object->next;
          if (l.pending_tail == object) l.pending_tail = before;
          --l.pending_count;
          --stats.pending_objects;
          object->next = nullptr;
          unlist(*object->span);
          return object;
        }
        before = object;
        object = object->next;
      }
    }
    harvest(l, fence);
  }
  return take_ready(l);
}

Object* Shard::pop_spilled(uint32_t granules, const Fence& fence) {
  const auto it = spilled_.find(granules);
  if (it == spilled_.end()) return nullptr;
  harvest(it->second, fence);
  return take_ready(it->second);
}

void Shard::push_fresh(Object* object) {
  object->span->listed_spilled = object->span->spilled_bytes > 0;
  List& l = list_of(*object->span);
  object->state = ObjectState::fresh;
  object->next = l.ready;
  l.ready = object;
}

void Shard::push_free(Object* object) {
  Span& span = *object->span;
  if (!span.small) {
    const size_t spilled = span.spilled_bytes;
    span.listed_spilled = spilled > 0;
    span.listed_device_bytes = span.bytes() - spilled;
    stats.cached_bytes += span.listed_device_bytes;
  }
  List& l = list_of(span);
  span.idle_since = tick;
  if (object->epoch == 0) {
    object->state = ObjectState::fresh;
    object->next = l.ready;
    l.ready = object;
    --span.objects_used;
    return;
  }
  object->state = ObjectState::pending;
  object->next = nullptr;
  (l.pending_tail != nullptr ? l.pending_tail->next : l.pending_head) = object;
  l.pending_tail = object;
  ++l.pending_count;
  ++stats.pending_objects;
}

uint32_t Shard::pending(SizeKey key, uint64_t* oldest_epoch) {
  const List& l = list(key);
  *oldest_epoch = l.pending_head != nullptr ? l.pending_head->epoch : 0;
  return l.pending_count;
}

void Shard::take_idle(const Fence& fence, uint64_t before_tick, size_t want_bytes, bool large_only,
                      std::vector<Span*>* out) {
  size_t found = 0;
  each_list([&](List& l) {
    if (found >= want_bytes) return;
    harvest(l, fence);
    if (l.ready == nullptr || (large_only && l.ready->span->small)) return;
    // Which spans go: nothing of theirs is in use. Small pages may have several objects here.
    Object** link = &l.ready;
    while (*link != nullptr) {
      Object* object = *link;
      Span* span = object->span;
      const bool idle =
          span->objects_used == 0 && span->idle_since <= before_tick && span->moving == 0;
      if (!idle || found >= want_bytes) {
        link = &object->next;
        continue;
      }
      if (span->small) {
        // Its other objects are spread over the list: take them all out in one pass.
        Object** inner = &l.ready;
        while (*inner != nullptr) {
          if ((*inner)->span == span) {
            *inner = (*inner)->next;
          } else {
            inner = &(*inner)->next;
          }
        }
        out->push_back(span);
        found += span->bytes() - span->spilled_bytes;
        link = &l.ready;
        continue;
      }
      *link = object->next;
      unlist(*span);
      out->push_back(span);
      found += span->bytes() - span->spilled_bytes;
    }
  });
}

uint64_t Shard::newest_pending_epoch() {
  uint64_t newest = 0;
  each_list([&](List& l) {
    if (l.pending_tail != nullptr && l.pending_tail->epoch > newest) newest = l.pending_tail->epoch;
  });
  return newest;
}

void Shard::forget_stream(StreamKey stream) {
  each_list([&](List& l) {
    for (Object* o = l.pending_head; o != nullptr; o = o->next) {
      if (o->stream == stream) o->stream = 0;
    }
  });
}

}  // namespace flexlom::pool
