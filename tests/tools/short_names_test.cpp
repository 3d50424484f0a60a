#include "interpose/tool/short_names.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

using namespace flexlom::tool;

TEST_CASE("template and parameter lists of a name are collapsed") {
  const std::vector<std::pair<std::string, std::string>> names = {
      {"main", "main"},
      {"", ""},
      {"weights::load(int, std::vector<int>)", "weights::load(...)"},
      {"run()", "run()"},
      {"void at::native::fill<float, 4>(at::Tensor&) const",
       "void at::native::fill<...>(...) const"},
      {"a::b<c<d>, (e)1>::f(g<h>)::{lambda(int)#2}::operator()(int) const",
       "a::b<...>::f(...)::{lambda(...)#2}::operator()(...) const"},
      {"(anonymous namespace)::grow(unsigned long)", "(anonymous namespace)::grow(...)"},
      {"operator<<(std::ostream&, x const&)", "operator<<(...)"},
      {"bool operator< <int>(p<int> const&)", "bool operator< <...>(...)"},
      {"bool operator<(p const&, p const&)", "bool operator<(...)"},
      {"p::operator->() const", "p::operator->() const"},
      {"p::operator bool() const", "p::operator bool() const"},
      {"f<(a > b)>(int)", "f<...>(...)"},
      {"auto f(int) -> g<int>", "auto f(...) -> g<...>"},
      {"my_operator<int>(int)", "my_operator<...>(...)"},
      {"f(int) [clone .cold]", "f(...) [clone .cold]"},
      {"<module>", "<module>"},
      {"<T as core::fmt::Display>::fmt", "<...>::fmt"},
      {"f<int", "f<...>"},
      {"f>>)", "f>>)"},
      {"libx.so+0x1234", "libx.so+0x1234"},
      {"Model.forward", "Model.forward"},
  };
  for (const auto& [name, wanted] : names) CHECK(short_function(name) == wanted);
  // Whatever the name is, there is an end.
  CHECK(short_function(std::string(100'000, '<')) == "<...>");
  CHECK(short_function(std::string(1000, ')')) == std::string(1000, ')'));
}

TEST_CASE("a short stack has the innermost frames and a bound") {
  const auto stack_of = [](const std::vector<std::string>& names) {
    std::vector<flexlom::trace::FrameLabel> stack;
    for (const std::string& name : names) stack.push_back({name, "/src/some/file.cpp", 7});
    return short_stack(stack);
  };
  CHECK(stack_of({}).empty());
  CHECK(stack_of({"a(int)"}) == "a(...)");
  CHECK(stack_of({"a", "b<int>", "c"}) == "a < b<...> < c");
  CHECK(stack_of({"a", "b", "c", "d"}) == "a < b < c < ...");
  for (size_t frames = 1; frames < 6; frames++) {
    const std::vector<std::string> names(frames, std::string(300, 'x') + "::name(int)");
    CHECK(stack_of(names).size() <= most_short_stack);
    CHECK(stack_of(names).find("x::name(...)") != std::string::npos);
  }
  // Characters are not cut.
  std::string many;
  for (int i = 0; i < 200; i++) many += "\xc3\xbc";
  CHECK(stack_of({many}).find('?') == std::string::npos);
  CHECK(stack_of({many}).substr(0, 5) == "...\xc3\xbc");
  CHECK(stack_of({many + "x"}).substr(0, 5) == "...\xc3\xbc");
  CHECK(stack_of({"bad\xff"}) == "bad?");
}
