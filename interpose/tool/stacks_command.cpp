// flexlom internal-stacks: names of call stacks, for the library, which has none (ask_tool.h).
#include <fmt/format.h>

#include <cstdio>

#include "interpose/tool/arguments.h"
#include "interpose/tool/commands.h"
#include "interpose/tool/output.h"
#include "interpose/tool/report_text.h"
#include "interpose/tool/symbols.h"

namespace flexlom::tool {

// Of the log on standard input, the stack of every frame that it names, each followed by an empty
// line; "caller not known" for those that are not there.
int stacks_command(Words) {
  trace::Summary log;
  Symbols symbols({});
  symbols.attach(log);
  std::vector<trace::FrameId> wanted;
  trace::ReadHooks hooks;
  hooks.record = [&](const trace::Record& record) {
    if (record.kind == trace::Kind::guard) wanted.push_back(log.frames.find(record.frame));
  };
  std::string error;
  if (!trace::read_log("-", log, &error, hooks)) {
    complain(printable(error));
    return exit_usage;
  }
  std::string out;
  for (const trace::FrameId frame : wanted) {
    write_stack(out, log, frame, 0);
    out += '\n';
  }
  fmt::print("{}", out);
  return 0;
}

}  // namespace flexlom::tool
