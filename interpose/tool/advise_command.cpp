// flexlom advise: what would a smaller GPU do to this job?
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "interpose/tool/advise_log.h"
#include "interpose/tool/advise_model.h"
#include "interpose/tool/advise_plot.h"
#include "interpose/tool/arguments.h"
#include "interpose/tool/commands.h"
#include "interpose/tool/json_builder.h"
#include "interpose/tool/output.h"
#include "interpose/tool/output_file.h"
#include "interpose/tool/progress.h"

namespace flexlom::tool {
namespace {

constexpr const char* usage =
    R"(usage: flexlom advise [OPTIONS] LOG

Reads a trace log written with FLEXLOM_TRACE_LAUNCHES (flexlom run --trace LOG --trace-launches) and
predicts the same job with less device memory: the same decisions about which pages lie where, on a
model of the link. Record with all the memory the job wants.
  --budgets LIST         device memory to try, such as 90%,75%,8G; percentages are of the peak
  --device-memory LIST   cards to try, such as 16G,24G; what the driver and a context take is left
                         out of each
  --link P,Z             GB/s of copies and of kernels that read host memory (default 55.4,51)
  --from SECONDS         compare from here on (default: the second half of the submissions, because
                         the first passes are for learning what is used when)
  --device N             default: the device with most submissions
  --plot FILE.svg        the curve as a picture
  --json                 one JSON object
)";

constexpr double kGiB = 1 << 30;
constexpr uint64_t kLeast_bytes = uint64_t{16} << 20;  // that any budget is worth a thought
// Of the slowdowns of cards, the one that a sentence is made of.
constexpr double kBearable = 1.5;

// What a card's driver, a context and its kernels keep for themselves, and what the default budget
// leaves free.
uint64_t usable_bytes(uint64_t card) {
  constexpr uint64_t kContext = 512u << 20;
  const uint64_t margin = std::clamp<uint64_t>(card / 64, 256u << 20, uint64_t{2} << 30);
  return card > 2 * (kContext + margin) ? card - kContext - margin : card / 2;
}

// "90%", "8G", "1.5GiB". Nothing when it is neither.
std::optional<uint64_t> size_of(std::string_view text, uint64_t whole) {
  double value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || !(value >= 0) || value > 1e15) return std::nullopt;
  std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  if (unit == "%") return static_cast<uint64_t>(static_cast<double>(whole) * value / 100);
  double factor = 1;
  constexpr std::string_view units = "KMGT";
  if (!unit.empty()) {
    const size_t at = units.find(static_cast<char>(unit[0] & ~0x20));
    if (at == std::string_view::npos) return std::nullopt;
    for (size_t i = 0; i <= at; ++i) factor *= 1024;
    unit.remove_prefix(1);
    if (!unit.empty() && unit != "B" && unit != "iB") return std::nullopt;
  }
  if (value * factor > 1e15) return std::nullopt;
  return static_cast<uint64_t>(value * factor);
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ',') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

struct Row {
  Prediction prediction;
  double slowdown = 1;
  uint64_t card_bytes = 0;  // 0: a budget
  bool knee = false;
};

struct Advice {
  AdviseJob job;
  trace::Summary log;
  LinkModel link;
  uint64_t from_ns = 0;
  Prediction all;  // with all the memory
  double recorded_seconds = 0;
  std::vector<Row> rows;      // ascending
  std::vector<Row> cards;     // ascending
  double measured_share = 0;  // of launches whose function was timed
};

const Row* fitting_card(const Advice& advice) {
  for (const Row& card : advice.cards) {
    if (card.slowdown <= kBearable) return &card;
  }
  return advice.cards.empty() ? nullptr : &advice.cards.back();
}

std::string card_name(uint64_t bytes) {
  return fmt::format("{:g} GB", static_cast<double>(bytes) / kGiB);
}

std::string sentence(const Advice& advice, const Row& card) {
  if (card.prediction.budget_bytes >= advice.job.peak_bytes)
    return fmt::format("this job fits a {} card", card_name(card.card_bytes));
  return fmt::format("this job fits a {} card at {:.1f}x, with {} of host memory",
                     card_name(card.card_bytes), card.slowdown,
                     human_bytes(card.prediction.host_peak_bytes));
}

std::vector<PlotPoint> points_of(const Advice& advice) {
  std::vector<PlotPoint> points;
  for (const Row& row : advice.rows)
    points.push_back(
        {static_cast<double>(row.prediction.budget_bytes) / kGiB, row.slowdown, row.knee});
  return points;
}

void print_text(const Advice& advice, const std::string& file) {
  const AdviseJob& job = advice.job;
  fmt::print("{}: {}, device {}{}\n", file, printable(advice.log.command), job.device,
             job.device_name.empty() ? "" : " (" + printable(job.device_name) + ")");
  fmt::print(
      "  {} submissions in {:.2f} s, {} of device memory at the peak; compared: the last "
      "{:.2f} s\n\n",
      job.launches, static_cast<double>(job.last_ns - job.first_launch_ns) / 1e9,
      human_bytes(job.peak_bytes), advice.recorded_seconds);
  fmt::print("{:>10} {:>8} {:>9} {:>10} {:>12} {:>10} {:>10}\n", "memory", "of peak", "slowdown",
             "time", "host memory", "moved up", "in place");
  for (auto row = advice.rows.rbegin(); row != advice.rows.rend(); ++row) {
    const Prediction& p = row->prediction;
    fmt::print("{:>10} {:>6.0f} % {:>8.2f}x {:>8.2f} s {:>12} {:>10} {:>10}{}\n",
               human_bytes(p.budget_bytes),
               100.0 * static_cast<double>(p.budget_bytes) / static_cast<double>(job.peak_bytes),
               row->slowdown, advice.recorded_seconds * row->slowdown,
               human_bytes(p.host_peak_bytes), human_bytes(p.up_bytes),
               human_bytes(p.in_place_bytes), row->knee ? "  <- knee" : "");
  }
  fmt::print("\n{}\n", advise_ascii(points_of(advice)));
  for (const Row& row : advice.rows) {
    if (row.knee)
      fmt::print("knee: {} at {:.2f}x; with less it gets slower faster\n",
                 human_bytes(row.prediction.budget_bytes), row.slowdown);
  }
  if (const Row* card = fitting_card(advice)) fmt::print("{}\n", sentence(advice, *card));
  for (const Row& card : advice.cards) {
    fmt::print("  {:>6} card: {:.2f}x\n", card_name(card.card_bytes), card.slowdown);
  }
  fmt::print(
      "\nassumed: {:.1f} GB/s for copies and {:.1f} GB/s in place (--link), host memory enough for "
      "what is not on the device,\nand a program that does the same whatever the memory (PyTorch "
      "frees its cache when memory is short, which is better).\n",
      advice.link.copy / 1e9, advice.link.in_place / 1e9);
  if (advice.measured_share < 0.9)
    fmt::print(
        "note: only {:.0f} % of the submissions were of kernels that had been timed; the "
        "others count as 5 us\n",
        advice.measured_share * 100);
  if (job.spilled_records > 0)
    fmt::print(
        "note: memory was short in this run already; its times include moving. Record with "
        "more for a better prediction.\n");
  const double modelled = advice.all.seconds / std::max(advice.recorded_seconds, 1e-9);
  if (modelled > 1.25 || modelled < 0.6)
    fmt::print(
        "note: with all its memory the model takes {:.2f} times what was recorded: the program "
        "waits for other things, or uses several streams; expect slowdowns to be off\n",
        modelled);
  if (job.left_out + advice.log.dropped + advice.log.bad_line_count > 0)
    fmt::print("note: {} records could not be used\n",
               job.left_out + advice.log.dropped + advice.log.bad_line_count);
}

std::string row_json(const Row& row) {
  Json json('{');
  if (row.card_bytes != 0) json.number("card_bytes", row.card_bytes);
  json.number("budget_bytes", row.prediction.budget_bytes);
  json.raw("slowdown", fmt::format("{:.4f}", row.slowdown));
  json.raw("model_seconds", fmt::format("{:.6f}", row.prediction.seconds));
  json.number("host_peak_bytes", row.prediction.host_peak_bytes);
  json.number("up_bytes", row.prediction.up_bytes);
  json.number("down_bytes", row.prediction.down_bytes);
  json.number("in_place_bytes", row.prediction.in_place_bytes);
  json.number("batches", row.prediction.batches);
  if (row.knee) json.raw("knee", "true");
  return json.end();
}

void print_json(const Advice& advice, const std::string& file) {
  Json json('{');
  json.text("file", file);
  json.number("device", static_cast<uint64_t>(advice.job.device));
  json.number("submissions", advice.job.launches);
  json.number("peak_bytes", advice.job.peak_bytes);
  json.raw("recorded_seconds", fmt::format("{:.6f}", advice.recorded_seconds));
  json.raw("model_seconds", fmt::format("{:.6f}", advice.all.seconds));
  json.raw("timed_share", fmt::format("{:.4f}", advice.measured_share));
  json.number("records_left_out", advice.job.left_out + advice.log.dropped);
  json.number("bad_lines", advice.log.bad_line_count);
  Json rows('['), cards('[');
  for (const Row& row : advice.rows) rows.raw("", row_json(row));
  for (const Row& row : advice.cards) cards.raw("", row_json(row));
  json.raw("budgets", rows.end());
  json.raw("cards", cards.end());
  if (const Row* card = fitting_card(advice)) json.text("advice", sentence(advice, *card));
  fmt::print("{}\n", json.end());
}

// The time of the launch in the middle.
uint64_t middle_of(const AdviseJob& job) {
  uint64_t seen = 0;
  for (const AdviseEvent& event : job.events) {
    if (event.kind == AdviseEvent::Kind::launch && ++seen > job.launches / 2) return event.at_ns;
  }
  return job.first_launch_ns;
}

struct Wanted {
  std::vector<std::string> budgets = split("100%,95%,90%,85%,80%,75%,70%,65%,60%,50%,40%,30%");
  std::vector<std::string> cards;
  std::optional<uint64_t> from_ns;
  int device = -1;
  std::string plot;
  bool json = false;
};

bool read(const std::string& file, const Wanted& wanted, Advice* advice) {
  AdviseReader reader;
  trace::ReadHooks hooks;
  hooks.record = [&](const trace::Record& record) { reader.record(record, advice->log); };
  std::string error;
  if (!read_with_progress(file, advice->log, &error, hooks)) {
    complain(printable(error));
    return false;
  }
  if (!reader.finish(advice->log, wanted.device, &advice->job)) {
    complain(fmt::format(
        "{}: no records of submissions{}; record them with flexlom run --trace LOG "
        "--trace-launches",
        printable(file), wanted.device >= 0 ? fmt::format(" on device {}", wanted.device) : ""));
    return false;
  }
  return true;
}

Row predict_row(Advice* advice, uint64_t budget, uint64_t card, Progress& progress, double done,
                double part) {
  const auto show = [&](double share) {
    progress.update(static_cast<uint64_t>((done + share * part) * 1000), 1000);
  };
  Row row;
  row.card_bytes = card;
  row.prediction = predict(advice->job, advice->link, budget, advice->from_ns,
                           progress.shown() ? std::function<void(double)>(show) : nullptr);
  // What the model adds is added to what was recorded: what it leaves out, it leaves out of both.
  const double extra = row.prediction.seconds - advice->all.seconds;
  const double whole = std::max({advice->recorded_seconds, advice->all.seconds, 1e-9});
  row.slowdown = 1 + std::max(0.0, extra) / whole;
  return row;
}

// False, after complaining, when a size is not one.
bool sizes(const std::vector<std::string>& words, uint64_t whole, const char* option,
           std::vector<uint64_t>* out) {
  for (const std::string& word : words) {
    const auto bytes = size_of(word, whole);
    if (!bytes || (*bytes < kLeast_bytes && !word.ends_with('%'))) {
      complain(fmt::format("{}: '{}' is not an amount of memory of 16 MiB or more, such as 8G{}",
                           option, printable(word), whole > 0 ? " or 75%" : ""));
      return false;
    }
    out->push_back(std::max(*bytes, kLeast_bytes));
  }
  std::sort(out->begin(), out->end());
  out->erase(std::unique(out->begin(), out->end()), out->end());
  return true;
}

void evaluate(const std::vector<uint64_t>& budgets, const std::vector<uint64_t>& cards,
              Advice* advice) {
  Progress progress("replaying");
  const double part = 1.0 / static_cast<double>(budgets.size() + cards.size() + 1);
  double done = 0;
  uint64_t timed = 0;
  for (const auto& [number, f] : advice->job.functions) {
    if (f.resident_ns > 0 || !f.kernel || !f.in_place_rates.empty()) timed += f.launches;
  }
  advice->measured_share =
      static_cast<double>(timed) / static_cast<double>(std::max<uint64_t>(advice->job.launches, 1));
  // More than it ever needs, with what is kept free.
  const uint64_t plenty = advice->job.peak_bytes * 2 + (uint64_t{1} << 30);
  advice->all = predict_row(advice, plenty, 0, progress, done, part).prediction;
  for (const uint64_t budget : budgets) {
    advice->rows.push_back(predict_row(advice, budget, 0, progress, done += part, part));
  }
  for (const uint64_t card : cards) {
    advice->cards.push_back(
        predict_row(advice, usable_bytes(card), card, progress, done += part, part));
  }
  // A little more memory is never worse: what the model says otherwise is its noise.
  const auto smooth = [](std::vector<Row>& rows) {
    for (size_t i = rows.size(); i-- > 1;)
      rows[i - 1].slowdown = std::max(rows[i - 1].slowdown, rows[i].slowdown);
  };
  smooth(advice->rows);
  smooth(advice->cards);
  if (advice->rows.size() > 2) advice->rows[knee_of(points_of(*advice))].knee = true;
}

}  // namespace

int advise_command(Words words) {
  Wanted wanted;
  Advice advice;
  Arguments arguments("advise", words);
  while (const auto option = arguments.option()) {
    if (*option == "--help") {
      fmt::print("{}", usage);
      return 0;
    } else if (*option == "--json") {
      wanted.json = true;
    } else if (*option == "--budgets") {
      if (auto text = arguments.value()) wanted.budgets = split(*text);
    } else if (*option == "--device-memory") {
      if (auto text = arguments.value()) wanted.cards = split(*text);
    } else if (*option == "--plot") {
      if (auto text = arguments.value()) wanted.plot = *text;
    } else if (*option == "--from") {
      if (auto ns = arguments.seconds_ns()) wanted.from_ns = *ns;
    } else if (*option == "--device") {
      if (auto number = arguments.number())
        wanted.device = static_cast<int>(std::min<uint64_t>(*number, 1 << 20));
    } else if (*option == "--link") {
      const auto text = arguments.value();
      if (!text) continue;
      const auto parts = split(*text);
      double rates[2] = {0, 0};
      bool numbers = parts.size() == 2;
      for (size_t i = 0; numbers && i < 2; ++i) {
        const char* const end = parts[i].data() + parts[i].size();
        const auto [rest, problem] = std::from_chars(parts[i].data(), end, rates[i]);
        numbers = problem == std::errc() && rest == end;
      }
      if (!numbers || !(rates[0] >= 0.1 && rates[1] >= 0.1) || rates[0] > 1e5 || rates[1] > 1e5) {
        arguments.complain_about("--link needs two rates in GB/s, such as 55.4,51");
        continue;
      }
      advice.link.copy_both *= rates[0] * 1e9 / advice.link.copy;
      advice.link.copy = rates[0] * 1e9;
      advice.link.in_place = rates[1] * 1e9;
    } else {
      arguments.unknown();
    }
  }
  const std::optional<std::string> named = arguments.one_file();
  if (!named) return exit_usage;
  const std::string& file = *named;
  if (!wanted.plot.empty() && would_replace(wanted.plot, file)) {
    complain("advise: the plot would replace the log; use --plot with another FILE");
    return exit_usage;
  }
  if (!read(file, wanted, &advice)) return 1;
  if (advice.job.peak_bytes == 0) {
    complain(fmt::format("{}: no allocation of device {} could be read", printable(file),
                         advice.job.device));
    return 1;
  }
  std::vector<uint64_t> budgets, cards;
  if (!sizes(wanted.budgets, advice.job.peak_bytes, "--budgets", &budgets) ||
      !sizes(wanted.cards, 0, "--device-memory", &cards))
    return exit_usage;
  if (wanted.cards.empty()) {
    for (const uint64_t gib : {4, 6, 8, 12, 16, 24, 32, 40, 48, 80, 141}) {
      const uint64_t card = gib << 30;
      if (card / 4 * 5 > advice.job.peak_bytes / 3 && card < advice.job.peak_bytes * 2)
        cards.push_back(card);
    }
  }
  advice.from_ns = wanted.from_ns ? advice.log.first_ns + *wanted.from_ns : middle_of(advice.job);
  if (advice.from_ns >= advice.job.last_ns) {
    complain("--from: there is nothing of the job after that");
    return exit_usage;
  }
  advice.recorded_seconds = static_cast<double>(advice.job.last_ns - advice.from_ns) / 1e9;
  evaluate(budgets, cards, &advice);
  if (!wanted.plot.empty()) {
    OutputFile out(wanted.plot);
    out.put(advise_svg(points_of(advice),
                       "Slowdown with less device memory: " + printable(advice.log.command)));
    if (!out.close()) {
      complain(out.error());
      return 1;
    }
  }
  if (wanted.json) {
    print_json(advice, file);
  } else {
    print_text(advice, file);
  }
  return 0;
}

}  // namespace flexlom::tool
