// Any bytes as the value of any option: parsed or refused, never both, and the same every time.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "interpose/options.h"
#include "interpose/trace/path_template.h"

namespace {

std::string value;
const char* variable = "";

const char* fake_getenv(const char* name) {
  return std::strcmp(name, variable) == 0 ? value.c_str() : nullptr;
}

void require(bool holds) {
  if (!holds) std::abort();
}

void check_limit(const flexlom::Limit& limit) {
  constexpr uint64_t total = uint64_t{80} << 30;
  require(limit.value >= 0);
  if (limit.kind == flexlom::Limit::Kind::percent) require(limit.of(total) <= total);
  if (limit.kind == flexlom::Limit::Kind::bytes)
    require(limit.of(total) == limit.of(1) && limit.of(1) < uint64_t{1} << 53);
}

}  // namespace

// The first byte chooses the option, the rest is its value.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const flexlom::OptionRow& row = flexlom::option_table[data[0] % flexlom::option_count];
  variable = row.variable;
  value.assign(reinterpret_cast<const char*>(data) + 1, size - 1);
  value = value.c_str();  // as an environment would hold it

  std::vector<flexlom::OptionError> errors;
  flexlom::Options options = flexlom::parse_options(fake_getenv, &errors);
  require(errors.size() <= 1);
  if (!value.empty()) require(row.accepts(value) == errors.empty());
  if (!errors.empty()) require(errors[0].text == value && errors[0].variable == row.variable);
  check_limit(options.host_limit);
  check_limit(options.device_limit.all);
  for (const auto& [ordinal, limit] : options.device_limit.each) {
    require(ordinal >= 0);
    check_limit(limit);
    check_limit(options.device_limit.for_device(ordinal));
  }
  require(options.idle_trim_ms >= -1);

  std::string error;
  auto path = flexlom::trace::expand_path_template(value, fake_getenv, &error);
  require(path.has_value() == error.empty());
  return 0;
}
