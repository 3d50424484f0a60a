// Names of trace files: "run-%e.%p.jsonl" becomes "run-python3.11.4242.jsonl".
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace flexlom::trace {

// Expands %p process id, %h host name, %e executable name, %t local time of this call as
// YYYYmmdd-HHMMSS, %q{VAR} environment variable (a rank, say), and %% percent sign. `get` looks up
// variables (secure_getenv in the library). Anything else after a percent sign, and a variable
// that is not set, is an error that names it: `error` is set and nothing is returned.
std::optional<std::string> expand_path_template(std::string_view text,
                                                const char* (*get)(const char*),
                                                std::string* error);

}  // namespace flexlom::trace
