#include "tests/stress/worker.h"

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <thread>

#include "kernels/testing_host.h"

namespace stress {

Worker::Worker(Shared& shared, unsigned index)
    : shared_(shared), index_(index), random_(shared.options.seed * 1000 + index) {}

void Worker::run() {
  MUST(cuCtxSetCurrent, shared_.context);
  streams_.push_back(nullptr);  // the legacy stream, which waits for all blocking ones
  for (unsigned flags : {CU_STREAM_DEFAULT, CU_STREAM_NON_BLOCKING, CU_STREAM_NON_BLOCKING}) {
    CUstream stream = nullptr;
    MUST(cuStreamCreate, &stream, flags);
    streams_.push_back(stream);
  }
  // With both budgets used up by the threads before, the first words may have to wait for a free.
  while (CU(cuMemAlloc)(&verdicts_, kVerdicts * sizeof(uint64_t)) == CUDA_ERROR_OUT_OF_MEMORY) {
    if (shared_.stop.load(std::memory_order_relaxed)) return;
    shared_.refused.fetch_add(1, std::memory_order_relaxed);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  MUST(cuMemsetD8Async, verdicts_, 0, kVerdicts * sizeof(uint64_t), streams_[2]);
  MUST(cuStreamSynchronize, streams_[2]);
  if (shared_.options.moves) {
    cut_arena();
    cut_segment();
  }
  while (!shared_.stop.load(std::memory_order_relaxed) && iteration_ < shared_.options.iterations) {
    shared_.options.moves ? step_moving() : step();
    ++iteration_;
    shared_.iterations.fetch_add(1, std::memory_order_relaxed);
  }
  while (any()) release(take_random(), false);
  for (const Block& piece : pieces_) check(piece, "at the end");
  for (const Block& cell : cells_) check(cell, "mapped, at the end");
  settle();
  if (arena_ != 0) MUST(cuMemFree, arena_);
  if (segment_.exists()) segment_.end();
  MUST(cuMemFree, verdicts_);
  for (CUstream stream : streams_) {
    if (stream != nullptr) MUST(cuStreamDestroy, stream);
  }
}

void Worker::step() {
  const uint32_t dice = random_.below(1000);
  if (held_bytes_ > shared_.options.bytes_per_thread) {
    if (dice < 150) return post();
    return release(take_random(), false);
  }
  if (dice < 420) return allocate();
  if (dice < 560) {
    if (any()) release(take_random(), false);
  } else if (dice < 700) {
    if (any()) check(blocks_[random_.below(static_cast<uint32_t>(blocks_.size()))], "while held");
  } else if (dice < 770) {
    if (any()) fill(blocks_[random_.below(static_cast<uint32_t>(blocks_.size()))]);
  } else if (dice < 820) {
    copy_between();
  } else if (dice < 850) {
    compare_on_host();
  } else if (dice < 880) {
    post();
  } else if (dice < 910) {
    receive();
  } else if (dice < 960) {
    ask();
  } else if (dice < 975) {
    short_stream();
  } else if (dice < 987) {
    if (shared_.options.captures) capture();
  } else if (dice < 991) {
    MUST(cuMemPoolTrimTo, shared_.pool, size_t{random_.below(16)} << 20);
  } else if (dice < 993) {
    if (shared_.options.contexts) other_context();
  } else if (dice < 996) {
    // Excludes captures: a context-wide synchronisation breaks them on a real driver too.
    std::unique_lock lock(shared_.capture_mutex, std::try_to_lock);
    if (lock.owns_lock() && shared_.capturing.load() == 0) MUST(cuCtxSynchronize);
  } else {
    settle();
  }
}

// Mostly kernels that read what is held, far more than the device holds: each finds pages on the host,
// and is worth bringing them up. Some blocks are written between two readings, most are not, so that
// pages leave both with a copy that is still right and with one that is not.
void Worker::step_moving() {
  const uint32_t dice = random_.below(1000);
  if (held_bytes_ < shared_.options.bytes_per_thread ? dice < 300 : dice < 10) return allocate();
  if (!any()) return;
  if (dice < 200) {
    use_piece();
  } else if (dice < 300) {
    use_segment();
  } else if (dice < 700) {
    check(random_block(), "while held");
  } else if (dice < 770) {
    fill(blocks_[random_.below(static_cast<uint32_t>(blocks_.size()))]);
  } else if (dice < 820) {
    copy_between();
  } else if (dice < 850) {
    compare_on_host();
  } else if (dice < 890) {
    release(take_random(), false);
  } else if (dice < 905) {
    post();
  } else if (dice < 920) {
    receive();
  } else if (dice < 950) {
    ask();
  } else if (dice < 955) {
    short_stream();
  } else if (dice < 975) {
    if (shared_.options.captures) capture();
  } else if (dice < 978) {
    MUST(cuMemPoolTrimTo, shared_.pool, size_t{random_.below(16)} << 20);
  } else if (dice < 983) {
    if (shared_.options.contexts) other_context();
  } else {
    settle();
  }
}

size_t Worker::random_size() {
  if (shared_.options.moves && !random_.one_in(8)) return (2u << 20) + random_.below(10u << 20);
  const uint32_t dice = random_.below(100);
  if (dice < 45) return 256 + random_.below(64u << 10);
  if (dice < 65) return (64u << 10) + random_.below(960u << 10);
  if (dice < 96) return (1u << 20) + random_.below(5u << 20);
  return (6u << 20) + random_.below(14u << 20);
}

CUstream Worker::random_stream() { return streams_[random_.below(static_cast<uint32_t>(streams_.size()))]; }

// Keeps work in flight long enough for a mistake to show.
void Worker::maybe_delay(CUstream stream) {
  // Where pages are to move, work that seems not to end would only put that off.
  if (!random_.one_in(shared_.options.moves ? 64 : 8)) return;
  must(launch(shared_.kernels.spin_ns, stream, uint64_t{100'000} + random_.below(2'000'000)), "flex_spin_ns");
}

void Worker::allocate() {
  Block block;
  block.bytes = random_size();
  block.stream = random_stream();
  block.async = random_.one_in(3);
  const CUresult r = block.async ? CU(cuMemAllocAsync)(&block.address, block.bytes, block.stream)
                                 : CU(cuMemAlloc)(&block.address, block.bytes);
  if (r == CUDA_ERROR_OUT_OF_MEMORY) {
    shared_.refused.fetch_add(1, std::memory_order_relaxed);
    for (size_t keep = blocks_.size() / 2; blocks_.size() > keep;) release(take_random(), false);
    return;
  }
  must(r, block.async ? "cuMemAllocAsync" : "cuMemAlloc");
  if (block.address % 256 != 0) {
    std::fprintf(stderr, "FAILED: %llx is not aligned\n", block.address);
    shared_.wrong.fetch_add(1);
  }
  shared_.allocated.fetch_add(1, std::memory_order_relaxed);
  const uint64_t asked = shared_.asked_bytes.fetch_add(block.bytes) + block.bytes;
  for (uint64_t peak = shared_.asked_peak_bytes; peak < asked;) {
    if (shared_.asked_peak_bytes.compare_exchange_weak(peak, asked)) break;
  }
  held_bytes_ += block.bytes;
  note_host_bytes();
  fill(block);
  blocks_.push_back(block);
}

// The way that programs with an allocator of their own have: the driver hears of one allocation.
void Worker::cut_arena() {
  constexpr size_t kPieces = 5, kPieceBytes = 6u << 20;
  if (CU(cuMemAlloc)(&arena_, kPieces * kPieceBytes) != CUDA_SUCCESS) {
    arena_ = 0;
    return;
  }
  for (size_t i = 0; i < kPieces; ++i) {
    Block piece;
    piece.address = arena_ + i * kPieceBytes;
    piece.bytes = kPieceBytes;
    piece.stream = streams_[i % streams_.size()];
    fill(piece);
    pieces_.push_back(piece);
  }
}

// Some of them more often than others.
void Worker::use_piece() {
  if (pieces_.empty()) return;
  const auto all = static_cast<uint32_t>(pieces_.size());
  Block& piece = pieces_[std::min(random_.below(all), random_.below(all))];
  random_.one_in(8) ? fill(piece) : check(piece, "in the arena");
}

// And of those that map their memory themselves.
void Worker::cut_segment() {
  if (!segment_.make()) return;
  for (size_t i = 0; i < Segment::kBlocks; ++i) {
    Block cell;
    cell.address = segment_.block(i);
    cell.bytes = Segment::kBlockBytes;
    cell.stream = streams_[i + 1];
    fill(cell);
    cells_.push_back(cell);
  }
}

void Worker::use_segment() {
  if (cells_.empty()) return;
  Block& one = cells_[random_.below(Segment::kBlocks)];
  const uint32_t dice = random_.below(16);
  if (dice < 10) return check(one, "mapped");
  if (dice < 13) return fill(one);
  settle();  // the driver unmaps under running work
  const size_t frame = random_.below(Segment::kFrames);
  dice < 15 ? segment_.move() : segment_.renew(frame);
  for (size_t i = 0; i < Segment::kBlocks; ++i) {
    cells_[i].address = segment_.block(i);
    const bool kept = dice < 15;
    kept ? check(cells_[i], "mapped elsewhere") : fill(cells_[i]);
  }
}

void Worker::fill(Block& block) {
  block.seed = static_cast<uint32_t>(random_.next());
  must(launch(shared_.kernels.fill, block.stream, block.address, uint64_t{block.bytes / 4}, block.seed), "flex_fill");
}

void Worker::check(const Block& block, const char* how) {
  if (checks_.size() == kVerdicts) settle();
  const CUdeviceptr verdict = verdicts_ + checks_.size() * sizeof(uint64_t);
  checks_.push_back({block, iteration_, how});
  must(launch(shared_.kernels.check, block.stream, block.address, uint64_t{block.bytes / 4}, block.seed, verdict),
       "flex_check");
  shared_.checks.fetch_add(1, std::memory_order_relaxed);
}

Block Worker::take_random() {
  const size_t i = random_.below(static_cast<uint32_t>(blocks_.size()));
  const Block block = blocks_[i];
  blocks_[i] = blocks_.back();
  blocks_.pop_back();
  held_bytes_ -= block.bytes;
  return block;
}

void Worker::release(Block block, bool other_thread) {
  maybe_delay(block.stream);
  const char* how = other_thread ? "then freed by another thread" : "then freed at once";
  check(block, how);
  shared_.asked_bytes.fetch_sub(block.bytes);
  shared_.stale[random_.below(64)].store(block.address, std::memory_order_relaxed);
  if (block.async && !random_.one_in(4)) {
    MUST(cuMemFreeAsync, block.address, block.stream);
    return;
  }
  // cuMemFree of stream-ordered memory takes the program's word that nothing uses it any more.
  if (block.async || random_.one_in(8)) MUST(cuStreamSynchronize, block.stream);
  MUST(cuMemFree, block.address);
}

// One block's contents into another, across streams: the order is made with events.
void Worker::copy_between() {
  if (blocks_.size() < 2) return;
  Block& to = blocks_[random_.below(static_cast<uint32_t>(blocks_.size()))];
  const Block& from = blocks_[random_.below(static_cast<uint32_t>(blocks_.size()))];
  if (to.address == from.address || to.bytes / 4 > from.bytes / 4) return;
  CUevent before = nullptr, after = nullptr;
  MUST(cuEventCreate, &before, CU_EVENT_DISABLE_TIMING);
  MUST(cuEventCreate, &after, CU_EVENT_DISABLE_TIMING);
  MUST(cuEventRecord, before, from.stream);
  MUST(cuStreamWaitEvent, to.stream, before, 0);
  if (random_.one_in(2)) {
    must(launch(shared_.kernels.copy, to.stream, to.address, from.address, uint64_t{to.bytes / 4}), "flex_copy");
  } else {
    MUST(cuMemcpyDtoDAsync, to.address, from.address, to.bytes / 4 * 4, to.stream);
  }
  MUST(cuEventRecord, after, to.stream);
  MUST(cuStreamWaitEvent, from.stream, after, 0);
  MUST(cuEventDestroy, before);
  MUST(cuEventDestroy, after);
  to.seed = from.seed;
}

void Worker::compare_on_host() {
  if (!any()) return;
  const Block& block = blocks_[random_.below(static_cast<uint32_t>(blocks_.size()))];
  const uint64_t all = block.bytes / 4;
  const uint64_t words = std::min<uint64_t>(all, 4096);
  const uint64_t first = all == words ? 0 : random_.next() % (all - words);
  std::vector<uint32_t> copy(words);
  MUST(cuMemcpyDtoHAsync, copy.data(), block.address + first * 4, words * 4, block.stream);
  MUST(cuStreamSynchronize, block.stream);
  uint64_t wrong = 0;
  for (uint64_t i = 0; i < words; ++i) wrong += copy[i] != flexlom_testing_hash(block.seed, first + i);
  if (wrong > 0) complain({block, iteration_, "copied to the host"}, wrong);
}

void Worker::post() {
  if (!any()) return;
  const Block block = take_random();
  // A block of the legacy stream is the same for every thread; the others' streams end with their thread,
  // so what is sent has to be finished there.
  if (block.stream != nullptr) MUST(cuStreamSynchronize, block.stream);
  std::lock_guard lock(shared_.mail_mutex);
  shared_.mail.push_back({block.address, block.bytes, block.seed, nullptr, block.async});
}

void Worker::receive() {
  Block block;
  {
    std::lock_guard lock(shared_.mail_mutex);
    if (shared_.mail.empty()) return;
    block = shared_.mail.back();
    shared_.mail.pop_back();
  }
  if (random_.one_in(2)) return release(block, true);
  // Taken over, on a stream of this thread from now on.
  MUST(cuStreamSynchronize, block.stream);
  block.stream = random_stream();
  check(block, "after it was taken over");
  held_bytes_ += block.bytes;
  blocks_.push_back(block);
}

// A stream that is destroyed with work in flight: its handle soon is another stream's.
void Worker::short_stream() {
  CUstream stream = nullptr;
  MUST(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
  for (int i = 0; i < 2; ++i) {
    Block block;
    block.bytes = random_size();
    block.stream = stream;
    if (CU(cuMemAllocAsync)(&block.address, block.bytes, stream) != CUDA_SUCCESS) break;
    fill(block);
    maybe_delay(stream);
    check(block, "on a short-lived stream");
    MUST(cuMemFreeAsync, block.address, stream);
  }
  MUST(cuStreamDestroy, stream);
}

void Worker::capture() {
  if (!any()) return;
  const Block& held = blocks_[random_.below(static_cast<uint32_t>(blocks_.size()))];
  const CUstream stream = streams_[3];
  if (held.stream != stream) return;
  {
    std::lock_guard lock(shared_.capture_mutex);
    shared_.capturing.fetch_add(1);
  }
  if (checks_.size() == kVerdicts) settle();
  const CUdeviceptr verdict = verdicts_ + checks_.size() * sizeof(uint64_t);
  const auto mode = random_.one_in(2) ? CU_STREAM_CAPTURE_MODE_RELAXED : CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
  MUST(cuStreamBeginCapture, stream, mode);
  must(launch(shared_.kernels.check, stream, held.address, uint64_t{held.bytes / 4}, held.seed, verdict), "flex_check");
  CUdeviceptr beside = 0;  // allowed in the relaxed mode only
  if (mode == CU_STREAM_CAPTURE_MODE_RELAXED) {
    CUstreamCaptureMode relaxed = CU_STREAM_CAPTURE_MODE_RELAXED;
    MUST(cuThreadExchangeStreamCaptureMode, &relaxed);
    if (CU(cuMemAlloc)(&beside, random_size()) == CUDA_SUCCESS) MUST(cuMemFree, beside);
    MUST(cuThreadExchangeStreamCaptureMode, &relaxed);
  }
  CUgraph graph = nullptr;
  MUST(cuStreamEndCapture, stream, &graph);
  {
    std::lock_guard lock(shared_.capture_mutex);
    shared_.capturing.fetch_sub(1);
  }
  CUgraphExec exec = nullptr;
  MUST(cuGraphInstantiate, &exec, graph, 0);
  MUST(cuGraphLaunch, exec, stream);
  checks_.push_back({held, iteration_, "by a graph"});
  MUST(cuStreamSynchronize, stream);
  MUST(cuGraphExecDestroy, exec);
  MUST(cuGraphDestroy, graph);
  shared_.captures.fetch_add(1, std::memory_order_relaxed);
}

// A context of its own, whose memory partly ends with it.
void Worker::other_context() {
  {
    // Its end synchronises, as a context-wide synchronisation does.
    std::lock_guard lock(shared_.capture_mutex);
    if (shared_.capturing.load() != 0) return;
    CUcontext context = nullptr;
    MUST(cuCtxCreate, &context, nullptr, 0, 0);
    Kernels kernels;
    kernels.load();
    CUdeviceptr verdict = 0, address = 0;
    const bool room = CU(cuMemAlloc)(&verdict, sizeof(uint64_t)) == CUDA_SUCCESS;
    if (room) MUST(cuMemsetD8, verdict, 0, sizeof(uint64_t));
    for (uint32_t i = 0; room && i < 4; ++i) {
      const uint64_t words = random_size() / 4;
      if (CU(cuMemAlloc)(&address, words * 4) != CUDA_SUCCESS) continue;
      must(launch(kernels.fill, nullptr, address, words, i), "flex_fill");
      must(launch(kernels.check, nullptr, address, words, i, verdict), "flex_check");
      if (random_.one_in(2)) MUST(cuMemFree, address);
    }
    uint64_t wrong = 0;
    if (room && random_.one_in(2)) MUST(cuMemcpyDtoH, &wrong, verdict, sizeof wrong);
    MUST(cuCtxDestroy, context);
    if (wrong > 0) complain({{address, 0, 0, nullptr, false}, iteration_, "in another context"}, wrong);
  }
  CUcontext current = nullptr;
  MUST(cuCtxGetCurrent, &current);
  if (current != shared_.context) MUST(cuCtxSetCurrent, shared_.context);
  shared_.contexts.fetch_add(1, std::memory_order_relaxed);
}

void Worker::note_host_bytes() {
  const uint64_t host = is_simulated() ? SIM(simcuda_host_bytes)() : 0;
  for (uint64_t peak = shared_.host_peak_bytes; peak < host;) {
    if (shared_.host_peak_bytes.compare_exchange_weak(peak, host)) break;
  }
}

void Worker::ask() {
  note_host_bytes();
  CUdeviceptr base = 0;
  size_t bytes = 0;
  if (const CUdeviceptr stale = shared_.stale[random_.below(64)].load(std::memory_order_relaxed); stale != 0) {
    const CUdeviceptr near = stale + random_.below(4u << 20);
    CU(cuMemGetAddressRange)(&base, &bytes, near);
    unsigned type = 0;
    CU(cuPointerGetAttribute)(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, near);
  }
  if (!any()) return;
  const Block& block = blocks_[random_.below(static_cast<uint32_t>(blocks_.size()))];
  const CUdeviceptr inner = block.address + random_.next() % block.bytes;
  MUST(cuMemGetAddressRange, &base, &bytes, inner);
  unsigned type = 0;
  MUST(cuPointerGetAttribute, &type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, inner);
  size_t free_bytes = 0, total_bytes = 0;
  MUST(cuMemGetInfo, &free_bytes, &total_bytes);
  const bool interior_freed = inner != block.address && CU(cuMemFree)(inner) != CUDA_ERROR_INVALID_VALUE;
  if (base != block.address || bytes != block.bytes || type != CU_MEMORYTYPE_DEVICE || free_bytes > total_bytes ||
      interior_freed) {
    std::fprintf(stderr, "FAILED: wrong answer about %llx: range %llx+%zu (asked %zu), type %u, free %zu of %zu%s\n",
                 inner, base, bytes, block.bytes, type, free_bytes, total_bytes,
                 interior_freed ? ", an inner pointer could be freed" : "");
    shared_.wrong.fetch_add(1);
  }
}

// Waits for the checks made so far and looks at what they found.
void Worker::settle() {
  for (CUstream stream : streams_) MUST(cuStreamSynchronize, stream);
  if (checks_.empty()) return;
  uint64_t found[kVerdicts];
  const CUstream stream = streams_[2];
  MUST(cuMemcpyDtoHAsync, found, verdicts_, sizeof found, stream);
  MUST(cuStreamSynchronize, stream);
  for (size_t i = 0; i < checks_.size(); ++i) {
    if (found[i] != 0) complain(checks_[i], found[i]);
  }
  checks_.clear();
  MUST(cuMemsetD8Async, verdicts_, 0, kVerdicts * sizeof(uint64_t), stream);
  MUST(cuStreamSynchronize, stream);
}

void Worker::complain(const Check& check, uint64_t words) {
  if (shared_.wrong.fetch_add(words) > 0 && words < 16) return;
  std::fprintf(stderr,
               "WRONG: %" PRIu64 " words of %zu at %llx (seed %08x, %s, stream %p), %s, at iteration %" PRIu64
               " of thread %u, run seed %" PRIu64 "\n",
               words, check.block.bytes / 4, check.block.address, check.block.seed,
               check.block.async ? "async" : "sync", static_cast<void*>(check.block.stream), check.how,
               check.iteration, index_, shared_.options.seed);
}

}  // namespace stress
