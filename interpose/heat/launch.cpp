#include "interpose/heat/launch.h"

#include <emmintrin.h>

#include <cstring>

#include "interpose/heat/layout.h"

namespace flexlom::heat {

namespace {

CUdeviceptr word_at(const std::byte* p) noexcept {
  CUdeviceptr w;
  std::memcpy(&w, p, sizeof w);
  return w;
}

// Whether none of the eight words at p has an upper half between those of the hull's ends.
class Sieve {
 public:
  explicit Sieve(const Hull& hull) noexcept
      : low_(_mm_set1_epi32(static_cast<int>(upper(hull.low) ^ kSign))),
        span_(_mm_set1_epi32(
            static_cast<int>((upper(hull.low + hull.span) - upper(hull.low)) ^ kSign))) {}
  bool none(const std::byte* p) const noexcept {
    const __m128i outside = _mm_and_si128(outside_of_four(p), outside_of_four(p + 32));
    return _mm_movemask_epi8(outside) == 0xffff;
  }

 private:
  // The comparison is of signed numbers.
  static constexpr uint32_t kSign = 0x80000000u;
  static uint32_t upper(CUdeviceptr w) noexcept { return static_cast<uint32_t>(w >> 32); }
  __m128i outside_of_four(const std::byte* p) const noexcept {
    const __m128 a = _mm_loadu_ps(reinterpret_cast<const float*>(p));
    const __m128 b = _mm_loadu_ps(reinterpret_cast<const float*>(p + 16));
    const __m128i upper_halves = _mm_castps_si128(_mm_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1)));
    return _mm_cmpgt_epi32(_mm_sub_epi32(upper_halves, low_), span_);
  }

  const __m128i low_;
  const __m128i span_;
};

// Kernels of array libraries take structures of thousands of bytes: eight words for one branch.
void scan(Named& named, const std::byte* p, size_t words) noexcept {
  if (words >= 8) {
    const Sieve sieve(named.filter);
    for (; words >= 8; words -= 8, p += 64) {
      if (sieve.none(p)) [[likely]]
        continue;
      for (unsigned i = 0; i < 8; ++i) named.add(word_at(p + 8 * i));
    }
  }
  for (; words > 0; --words, p += 8) named.add(word_at(p));
}

// The packed form: a list of names and values, ended by CU_LAUNCH_PARAM_END.
void scan_packed(Named& named, const Layout& layout, void* const* extra) noexcept {
  const std::byte* buffer = nullptr;
  const size_t* size = nullptr;
  for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
    if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER) {
      buffer = static_cast<const std::byte*>(extra[1]);
    } else if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE) {
      size = static_cast<const size_t*>(extra[1]);
    } else {
      return;
    }
  }
  // With less than the function takes, the driver refuses.
  if (buffer == nullptr || size == nullptr || *size < layout.packed_bytes) return;
  for (const Run& run : layout.runs) scan(named, buffer + run.packed, run.words);
}

uint64_t threads(const Shape& s) noexcept {
  const auto grid = static_cast<unsigned __int128>(s.grid[0]) * s.grid[1] * s.grid[2];
  const auto block = uint64_t{s.block[0]} * s.block[1];
  // A block of more threads than any device has is refused.
  if (block > (1u << 20) || s.block[2] > (1u << 20)) return 0;
  const unsigned __int128 all = grid * (block * s.block[2]);
  return all > ~uint64_t{0} ? ~uint64_t{0} : static_cast<uint64_t>(all);
}

}  // namespace

void name_launch(Named& named, CUfunction function, const Shape& shape, void* const* params,
                 void* const* extra) noexcept {
  if (named.function == nullptr) named.function = function;
  const uint64_t work = threads(shape);
  // The driver refuses these before it looks at a parameter.
  if (function == nullptr || work == 0 || (params != nullptr && extra != nullptr)) return;
  if (__builtin_add_overflow(named.work, work, &named.work)) named.work = ~uint64_t{0};
  const Layout* layout = layout_of(function);
  if (layout == nullptr || !layout->known) [[unlikely]] {
    named.unknown = true;
    return;
  }
  if (named.filter.empty) return;
  if (extra != nullptr) {
    scan_packed(named, *layout, extra);
  } else if (params != nullptr) {
    for (const Run& run : layout->runs) {
      const auto* p = static_cast<const std::byte*>(params[run.param]);
      if (p == nullptr) continue;
      p += run.first;
      if (run.words == 1) [[likely]] {
        named.add(word_at(p));
      } else {
        scan(named, p, run.words);
      }
    }
  }
}

void name_attributes(Named& named, const CUlaunchAttribute* attributes, unsigned count) noexcept {
  if (attributes == nullptr) return;
  for (unsigned i = 0; i < count; ++i) {
    const CUlaunchAttribute& a = attributes[i];
    if (a.id == CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW)
      named.add(a.value.accessPolicyWindow.base_ptr);
  }
}

void name_operations(Named& named, const CUstreamBatchMemOpParams* list, size_t count) noexcept {
  if (list == nullptr) return;
  for (size_t i = 0; i < count; ++i) {
    switch (list[i].operation) {
      case CU_STREAM_MEM_OP_WAIT_VALUE_32:
      case CU_STREAM_MEM_OP_WAIT_VALUE_64:
        named.add(list[i].waitValue.address);
        break;
      case CU_STREAM_MEM_OP_WRITE_VALUE_32:
      case CU_STREAM_MEM_OP_WRITE_VALUE_64:
        named.add(list[i].writeValue.address);
        break;
      default:  // barriers and flushes name nothing, as does an operation we do not know
        break;
    }
  }
}

}  // namespace flexlom::heat
