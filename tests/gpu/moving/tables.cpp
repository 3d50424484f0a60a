// Data that kernels find by addresses in device memory: no launch names them.
#include <algorithm>
#include <numeric>
#include <utility>

#include "tests/gpu/moving/moving.h"

namespace moving {

namespace {

constexpr unsigned kBlocks = 16, kRounds = 4;

// xorshift: small, and the same everywhere.
struct Random {
  uint64_t state = 0x9E3779B97F4A7C15u;
  uint64_t below(uint64_t n) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % n;
  }
};

}  // namespace

// A table of pieces of 4 KiB in mixed order. They are changed and read through the table only,
// between sweeps that bring the blocks to the device by name, each time other ones.
void pointer_table(Program& program) {
  constexpr uint64_t kPieceBytes = 4096, kPieceWords = kPieceBytes / sizeof(uint32_t);
  program.add_blocks(kBlocks, kBlocks);
  const Stream stream;
  const uint64_t per_block = program.block_bytes / kPieceBytes;
  std::vector<CUdeviceptr> table;
  for (const CUdeviceptr block : program.blocks)
    for (uint64_t i = 0; i < per_block; ++i) table.push_back(block + i * kPieceBytes);
  Random random;
  for (size_t i = table.size() - 1; i > 0; --i) std::swap(table[i], table[random.below(i + 1)]);

  // As large as a page that moves, so that the table does too.
  CUdeviceptr device_table = 0;
  const uint64_t table_bytes = std::max<uint64_t>(table.size() * sizeof table[0], 4u << 20);
  MUST(cuMemAlloc, &device_table, table_bytes);
  MUST(cuMemcpyHtoD, device_table, table.data(), table.size() * sizeof table[0]);
  // The copy may still be under way, and our stream does not wait for the legacy one.
  MUST(cuStreamSynchronize, nullptr);

  for (uint32_t round = 0; round < kRounds; ++round) {
    program.mix(program.sweep(stream, round % 4, 2));
    launch(program.kernels.scatter_add, stream, device_table, uint64_t{table.size()}, kPieceWords,
           round + 1);
    const CUdeviceptr total = program.counter();
    launch(program.kernels.gather, stream, device_table, uint64_t{table.size()}, kPieceWords,
           total);
    // Behind it at once: what the table names must stay where it is until both have ended.
    program.mix(program.sweep(stream, (round + 1) % 4, 2));
    program.mix(program.value(total, stream));
  }
  program.sweeps(stream, 1);
  program.mix_blocks(stream);
  MUST(cuMemFree, device_table);
}

// One list through all blocks, in mixed order. Each visit changes the values; the blocks are reread
// by name in between, addresses and all, so those sums are not part of the digest.
void linked_list(Program& program) {
  constexpr uint64_t kNodes = 1u << 14;
  program.add_blocks(kBlocks, kBlocks);
  const Stream stream;
  const uint64_t per_block = kNodes / kBlocks, stride = program.block_bytes / per_block;
  const auto address = [&](uint64_t node) {
    return program.blocks[node / per_block] + node % per_block * stride;
  };
  // Sattolo's shuffle: a permutation that is a single cycle.
  std::vector<uint64_t> next(kNodes);
  std::iota(next.begin(), next.end(), 0);
  Random random;
  for (uint64_t i = kNodes - 1; i > 0; --i) std::swap(next[i], next[random.below(i)]);

  std::vector<uint64_t> image(program.block_bytes / sizeof(uint64_t));
  for (uint64_t block = 0; block < kBlocks; ++block) {
    for (uint64_t i = 0; i < per_block; ++i) {
      const uint64_t node = block * per_block + i;
      image[i * stride / sizeof(uint64_t)] = address(next[node]);
      image[i * stride / sizeof(uint64_t) + 1] = node;
    }
    MUST(cuMemcpyHtoD, program.blocks[block], image.data(), program.block_bytes);
  }
  MUST(cuStreamSynchronize, nullptr);

  for (uint32_t round = 0; round < kRounds; ++round) {
    program.sweep(stream, round % 4, 2);
    // The whole cycle, and half of it from another node each time.
    const CUdeviceptr total = program.counter(), reached = program.counter();
    launch_shaped({1, 1}, program.kernels.visit, stream, address(0), kNodes, total);
    launch_shaped({1, 1}, program.kernels.chase, stream, address(round), kNodes / 2 + round,
                  reached);
    program.sweep(stream, (round + 1) % 4, 2);
    program.mix(program.value(total, stream));
    const uint64_t at = program.value(reached, stream);
    uint64_t node = round;
    for (uint64_t i = 0; i < kNodes / 2 + round; ++i) node = next[node];
    if (at != address(node)) wrong("the chase ended at another node");
    program.mix(node);
  }
}

}  // namespace moving
