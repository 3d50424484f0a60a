// The subcommands of flexlom. Each gets the words after its own name and returns the exit status.
#pragma once

#include <span>
#include <string>

namespace flexlom::tool {

using Words = std::span<char* const>;

// Statuses of the launcher itself, as those of env(1) and timeout(1).
constexpr int exit_usage = 2;
constexpr int exit_launcher_failed = 125;
constexpr int exit_cannot_execute = 126;
constexpr int exit_not_found = 127;

int run_command(Words words);  // replaces this process when all is well
int doctor_command(Words words);
int options_command(Words words);
int report_command(Words words);
int export_command(Words words);
int advise_command(Words words);
int replay_command(Words words);
int replay_child_command(Words words);  // hidden: one allocator of it, in a child
int leaks_command(Words words);
int html_command(Words words);
int top_command(Words words);
int complete_command(Words words);  // hidden: for scripts/completions
int stacks_command(Words words);    // hidden: names for the library's reports
int probe_command(Words words);     // hidden: doctor's questions to the driver, in a child

}  // namespace flexlom::tool
