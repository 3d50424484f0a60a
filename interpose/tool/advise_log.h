// What flexlom advise takes from a trace log: one device's allocations and submissions in order.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "interpose/trace/summary.h"

namespace flexlom::tool {

// One kind of work: a kernel at one size, a copy, a graph.
struct AdviseFunction {
  std::string name;    // as the log has it; empty: not known
  bool kernel = true;  // or a graph; false: a copy or a fill, which is never moved for
  uint64_t launches = 0;
  double resident_ns = 0;             // on the device with all its data there; 0: not measured
  std::vector<float> in_place_rates;  // measured, ns for each byte of what was spilled
  float in_place_rate() const;        // their median, 0: none
  // The same code runs on large and on small data. Of launches that touched about as much as this,
  // or came nearest to it; resident_ns where it is not known what was touched.
  double resident_ns_of(uint64_t touched_bytes) const;

  // What the last launches touched, for the measurement of one that comes later in the log.
  struct Recent {
    uint64_t launch = 0, touched_bytes = 0;
  };
  static constexpr uint64_t kRecent = 61;     // every 64th is measured
  std::vector<Recent> recent;                 // by launch % kRecent; empty beyond kMostKernels
  std::map<int, double> resident_ns_by_size;  // by half octaves of the bytes touched
};

struct AdviseAllocation {
  uint64_t base = 0, bytes = 0;
  bool large = false;  // whole granules of its own
};

struct AdviseEvent {
  enum class Kind : uint8_t { alloc, free, launch, wait } kind = Kind::launch;
  uint32_t index = 0;             // of the allocation; of the function
  uint32_t first = 0, count = 0;  // launch: in `touches`; wait: count is 1 for a full queue only
  uint64_t at_ns = 0;             // of a wait, its end
  uint64_t wait_ns = 0;
};

// One device of one log. Times are ns of the log's clock.
struct AdviseJob {
  int device = 0;
  std::string device_name;
  uint64_t total_bytes = 0;  // of the device; 0: the log does not say
  std::vector<AdviseAllocation> allocations;
  std::map<uint32_t, AdviseFunction> functions;  // by the number in the log
  std::vector<AdviseEvent> events;
  std::vector<uint32_t> touches;  // allocations
  uint64_t launches = 0;
  uint64_t unknown_touches = 0;  // of memory whose allocation is not in the log
  uint64_t left_out = 0;         // records beyond what is kept
  uint64_t spilled_records = 0;  // the log is of a run whose memory was short
  uint64_t first_launch_ns = 0, last_ns = 0;
  uint64_t peak_bytes = 0;  // granules in use at one time
};

// Collects a job while a log is read (trace::ReadHooks::record). Not thread safe.
class AdviseReader {
 public:
  // Kept at most; a longer log is advised on by its beginning.
  static constexpr uint64_t kMostLaunches = 20'000'000;
  static constexpr size_t kMostKernels = 1u << 16;  // whose sizes are told apart
  static constexpr uint64_t kLargestAllocation_bytes = uint64_t{1} << 40;
  static constexpr uint64_t kMostLive_bytes = uint64_t{1} << 41;

  void record(const trace::Record& record, const trace::Summary& log);
  // The device with the most launches, or the one asked for (-1: none was). False: it has none.
  bool finish(const trace::Summary& log, int device, AdviseJob* out);

 private:
  struct Device {
    AdviseJob job;
    std::unordered_map<uint64_t, uint32_t> live;  // by base
    uint64_t large_bytes = 0, small_bytes = 0, launch_t_ns = 0;
    uint32_t launch_function = 0;
  };
  void alloc(const trace::Record& record, uint64_t at_ns);
  void free(const trace::Record& record, uint64_t at_ns);
  void launch(const trace::Record& record, uint64_t at_ns);
  void wait(const trace::Record& record, uint64_t at_ns);
  void timed(const trace::Record& record);
  void function(const trace::Record& record);

  std::map<int, Device> devices_;
  std::map<uint32_t, AdviseFunction> functions_;
  int last_device_ = 0;
  uint64_t last_launch_ns_ = 0;
  bool last_was_kernel_ = false;
};

}  // namespace flexlom::tool
