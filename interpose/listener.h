// What happens in the pool, told to people: the trace log, warnings, the out-of-memory message.
//
// Everything for people goes to standard error, one line at a time, each starting "flexlom[pid]: ";
// standard output is never touched. Thread safe.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>

#include "interpose/options.h"
#include "interpose/trace/writer.h"
#include "pool/pool.h"

namespace flexlom {

class Listener final : public pool::Observer {
 public:
  explicit Listener(const Options& options);

  void opened(pool::Pool& pool) noexcept;  // the pool whose holders the messages name
  bool tracing() const noexcept { return writer_ != nullptr; }
  trace::Writer* writer() const noexcept { return writer_.get(); }

  // Logs a request before it is attempted.
  void request(const pool::Request& request) noexcept;

  bool hears_allocations() const noexcept override { return tracing(); }
  void allocated(const pool::Request&, const pool::AllocationInfo&) noexcept override;
  void freed(const char* call, const pool::AllocationInfo&, pool::StreamKey) noexcept override;
  void spilled(int device, CUdeviceptr address, size_t bytes) noexcept override;
  void mapped(int device, CUdeviceptr address, size_t bytes, pool::Where) noexcept override;
  void unmapped(int device, CUdeviceptr address, size_t bytes, pool::Where) noexcept override;
  void device_opened(int device, CUdeviceptr base, size_t bytes) noexcept override;
  void out_of_memory(const pool::OutOfMemory&) noexcept override;
  void warned(std::string_view text) noexcept override;

  void say(std::string_view level, std::string_view text) noexcept;  // one line on standard error
  void
  explain_last_oom() noexcept;  // after the pool's locks are free: the message with the holders
  void summary(bool stats, bool coverage) noexcept;

 private:
  const bool quiet_;
  std::unique_ptr<trace::Writer> writer_;
  pool::Pool* pool_ = nullptr;
  std::atomic<unsigned> explained_{0};
};

}  // namespace flexlom
