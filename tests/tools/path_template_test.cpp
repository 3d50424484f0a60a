#include "interpose/trace/path_template.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <regex>

namespace {

const char* fake_getenv(const char* name) {
  if (std::string_view(name) == "RANK") return "7";
  if (std::string_view(name) == "EMPTY") return "";
  return nullptr;
}

std::string expanded(const char* text) {
  std::string error;
  auto path = flexlom::trace::expand_path_template(text, fake_getenv, &error);
  INFO(error);
  REQUIRE(path);
  return *path;
}

std::string error_of(const char* text) {
  std::string error;
  CHECK_FALSE(flexlom::trace::expand_path_template(text, fake_getenv, &error));
  return error;
}

}  // namespace

TEST_CASE("plain paths stay as they are") {
  CHECK(expanded("/tmp/a b/c.jsonl") == "/tmp/a b/c.jsonl");
  CHECK(expanded("100%%") == "100%");
}

TEST_CASE("percent letters") {
  CHECK(expanded("x.%p.y") == "x." + std::to_string(getpid()) + ".y");
  CHECK(expanded("%e") == "tools_unit");
  CHECK(std::regex_match(expanded("%t"), std::regex(R"(\d{8}-\d{6})")));
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  CHECK(expanded("%h") == host);
  CHECK(expanded("r%q{RANK}%q{EMPTY}.log") == "r7.log");
}

TEST_CASE("errors name what is wrong") {
  CHECK(error_of("a%z").find("%z") != std::string::npos);
  CHECK(error_of("a%").find("at the end") != std::string::npos);
  CHECK(error_of("%q{NOPE}").find("NOPE") != std::string::npos);
  CHECK(error_of("%q{RANK").find("braces") != std::string::npos);
  CHECK(error_of("%qRANK").find("braces") != std::string::npos);
  CHECK(error_of("%q{}").find("not set") != std::string::npos);
  CHECK(error_of("%q{EMPTY}").find("empty") != std::string::npos);
}
