#include "interpose/trace/json_line.h"

#include <catch2/catch.hpp>

#include "interpose/trace/json_text.h"

using flexlom::trace::JsonLine;

TEST_CASE("fields of every type are read") {
  JsonLine json;
  REQUIRE(json.parse(R"( {"a":1, "b" : "x\n\u00e9\ud83d\ude00" ,"c":"0x1f","d":[1,{"e":[]},"]"],)"
                     R"("f":-5,"g":true,"h":null,"i":1.5e3,"j":18446744073709551615} )"));
  CHECK(json.number("a") == 1u);
  CHECK(json.text("b") == "x\n\u00e9\U0001F600");
  CHECK(json.hex("c") == 0x1fu);
  CHECK(json.elements("d").size() == 3);
  CHECK(json.elements("d")[1] == R"({"e":[]})");
  CHECK(json.integer("f") == -5);
  CHECK_FALSE(json.number("f"));
  CHECK(json.boolean("g") == true);
  CHECK(json.raw("h") == "null");
  CHECK_FALSE(json.number("i"));
  CHECK(json.number("j") == UINT64_MAX);
  CHECK_FALSE(json.number("absent"));
  CHECK_FALSE(json.text("a"));
  CHECK_FALSE(json.hex("b"));
  CHECK(json.elements("a").empty());
}

TEST_CASE("empty objects and arrays") {
  JsonLine json;
  CHECK(json.parse("{}"));
  REQUIRE(json.parse(R"({"a":[ ],"b":{ }})"));
  CHECK(json.elements("a").empty());
}

TEST_CASE("what is not one JSON object is refused with a reason") {
  const char* text = GENERATE(
      "", "   ", "[]", "1", "nonsense", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,",
      "{\"a\":1,}", "{a:1}", "{\"a\":01}", "{\"a\":1.}", "{\"a\":-}", "{\"a\":+1}", "{\"a\":nul}",
      "{\"a\":\"x}", "{\"a\":\"\\x\"}", "{\"a\":\"\\u12g4\"}", "{\"a\":[1,]}", "{\"a\":[1}",
      "{\"a\":{1:2}}", "{} {}", "{\"a\":1}x", "{\"a\" 1}", "{\"a\":\"\t\"}", "{\"a\":1 \"b\":2}");
  CAPTURE(text);
  JsonLine json;
  CHECK_FALSE(json.parse(text));
  CHECK(*json.error() != '\0');
  CHECK(json.raw("a").empty());
}

TEST_CASE("deep nesting is refused, not followed into the ground") {
  JsonLine json;
  std::string deep = "{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}";
  CHECK_FALSE(json.parse(deep));
  CHECK(std::string(json.error()) == "nested too deep");
  std::string nested = "{\"a\":" + std::string(30, '[') + std::string(30, ']') + "}";
  CHECK(json.parse(nested));
}

TEST_CASE("unpaired surrogates become replacement characters") {
  CHECK(flexlom::trace::unescape_json(R"("\ud800x")") == "\uFFFDx");
  CHECK(flexlom::trace::unescape_json(R"("\udc00")") == "\uFFFD");
  CHECK(flexlom::trace::unescape_json(R"("\ud800\u0041")") ==
        "\uFFFD"
        "A");
}

TEST_CASE("any bytes become a JSON string that reads back") {
  auto round_trip = [](const std::string& text) {
    std::string line = R"({"a":)";
    flexlom::trace::append_json(line, text);
    line += '}';
    JsonLine json;
    REQUIRE(json.parse(line));
    return json.text("a").value_or("no text");
  };
  std::string ascii;
  for (int i = 0; i < 128; i++) ascii += static_cast<char>(i);
  CHECK(round_trip(ascii) == ascii);
  CHECK(round_trip("é€😀\"\\") == "é€😀\"\\");
  CHECK(round_trip("a\xff\xfe\xc3z") == "a???z");
}

TEST_CASE("well-formed UTF-8 is told from what is not") {
  using flexlom::trace::utf8_length;
  CHECK(utf8_length("a") == 1);
  CHECK(utf8_length("é") == 2);
  CHECK(utf8_length("€") == 3);
  CHECK(utf8_length("😀") == 4);
  for (const char* text :
       {"", "\x80", "\xc0\x80", "\xc3", "\xe0\x80\x80", "\xed\xa0\x80", "\xe2\x82",
        "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff"})
    CHECK(utf8_length(text) == 0);
}
