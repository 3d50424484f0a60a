// The fingerprint of a page of device memory: 128 bits, the same exactly when the bytes are the
// same.
//
// GPUs keep no dirty bits. A page whose fingerprint is what it was when its host copy was made need
// not be copied back. What the function promises, and how, is told in fingerprint_host.h.
//
// To launch: load flexlom_fingerprint_fatbin (cuModuleLoadData or cuLibraryLoadData, CUDA Driver
// API "Module Management"), get the function kFingerprintName, fill a FingerprintLaunch and pass it
// as the only parameter with
//   grid  (fingerprint_blocks(largest page_bytes), count, 1)
//   block (kFingerprintThreads, 1, 1), no dynamic shared memory.
// Any first grid dimension from 1 up gives the same result; the second must be at least `count`.
//
// The kernel reads the pages and writes the scratch and the results, nothing else. It is ordered by
// its stream like any kernel: the results are there when the stream has passed it. A page that is
// written while it is read gets the fingerprint of no state it ever had.
#pragma once
#include <cstddef>
#include <cstdint>

namespace flexlom::kernels {

// A page is a whole number of these units, at most 64 GiB; its address a multiple of 16 bytes.
inline constexpr uint64_t kFingerprintUnitBytes = 4096;
inline constexpr uint64_t kFingerprintMaxBytes = uint64_t{64} << 30;
inline constexpr unsigned kFingerprintMaxPages = 64;
inline constexpr unsigned kFingerprintThreads = 256;
inline constexpr const char* kFingerprintName = "flexlom_fingerprint";

// Never {0, 0}, which may stand for "not known".
struct Fingerprint {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const Fingerprint& a, const Fingerprint& b) {
    return a.low == b.low && a.high == b.high;
  }
  friend bool operator!=(const Fingerprint& a, const Fingerprint& b) { return !(a == b); }
};

// Where the blocks of one page meet. All zero before the first launch that uses it, and left so by
// every launch; launches that share one must not overlap (one stream, or ordered by events).
struct FingerprintScratch {
  uint64_t sums[2];
  uint32_t arrived;
  uint32_t unused[3];
};

struct FingerprintPage {
  uint64_t address;  // device address; a mapped host page works too, at the speed of the link
  uint64_t bytes;
};

// The kernel's one parameter, by value. 1048 bytes.
struct FingerprintLaunch {
  FingerprintPage pages[kFingerprintMaxPages];
  uint64_t scratch;  // FingerprintScratch[count], device memory
  uint64_t results;  // Fingerprint[count], device memory or mapped host memory
  uint32_t count;    // pages used, 1 to kFingerprintMaxPages
  uint32_t unused;
};
static_assert(sizeof(FingerprintScratch) == 32 && sizeof(Fingerprint) == 16);
static_assert(sizeof(FingerprintLaunch) == 16 * kFingerprintMaxPages + 24);

// What one block reads in the recommended grid: small enough that the last blocks to finish cost
// little, large enough that starting and ending a block is not what takes the time.
inline constexpr uint64_t kFingerprintSpanBytes = uint64_t{128} << 10;

constexpr unsigned fingerprint_blocks(uint64_t largest_page_bytes) {
  const uint64_t blocks = (largest_page_bytes + kFingerprintSpanBytes - 1) / kFingerprintSpanBytes;
  return blocks == 0 ? 1 : static_cast<unsigned>(blocks);
}

}  // namespace flexlom::kernels

// The fat binary of fingerprint.cu, in programs that link fingerprint_embed.S.
extern "C" const unsigned char flexlom_fingerprint_fatbin[];
extern "C" const unsigned char flexlom_fingerprint_fatbin_end[];
