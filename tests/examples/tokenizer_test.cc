// SPDX-License-Identifier: Apache-2.0
#include "examples/tokenizer.h"

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "examples/chat_template.h"
#include "tests/examples/golden.h"

namespace djinn::examples {
namespace {

TEST(Tokenizer, AgreesWithHuggingFaceOnOddTexts) {
  if (!model_is_there()) GTEST_SKIP() << no_model();
  const Tokenizer tokenizer(model_folder() / "tokenizer.json");
  const auto texts = golden("smollm2_tokenizer.json").at("texts");
  ASSERT_GT(texts.size(), 50U);
  for (const auto& each : texts) {
    const auto text = each.at("text").get<std::string>();
    const auto ids = each.at("ids").get<std::vector<int64_t>>();
    EXPECT_EQ(tokenizer.encode(text), ids) << each.at("text").dump();
    EXPECT_EQ(tokenizer.decode(ids), each.at("decoded").get<std::string>())
        << each.at("text").dump();
  }
}

TEST(Tokenizer, AgreesWithHuggingFaceOnWholeConversations) {
  if (!model_is_there()) GTEST_SKIP() << no_model();
  const Tokenizer tokenizer(model_folder() / "tokenizer.json");
  const ChatTemplate chat(model_folder() / "tokenizer_config.json");
  const auto prompts = golden("smollm2_greedy.json").at("prompts");
  for (const auto& each : prompts) {
    const auto prompt = each.at("prompt").get<std::string>();
    EXPECT_EQ(tokenizer.encode(chat.render(prompt)),
              each.at("prompt_ids").get<std::vector<int64_t>>())
        << prompt;
    EXPECT_EQ(tokenizer.decode(each.at("ids").get<std::vector<int64_t>>()),
              each.at("text").get<std::string>());
  }
}

TEST(Tokenizer, StreamsTheSameTextAsItDecodes) {
  if (!model_is_there()) GTEST_SKIP() << no_model();
  const Tokenizer tokenizer(model_folder() / "tokenizer.json");
  const std::string text = "Emoji 👩‍👩‍👧‍👦, 漢字, ½ and plain words.";
  Utf8Stream stream;
  std::string streamed;
  for (const int64_t id : tokenizer.encode(text)) {
    const std::string piece = stream.push(tokenizer.bytes_of(id));
    EXPECT_EQ(piece.find("\xEF\xBF\xBD"), std::string::npos)
        << "a character was given out in parts";
    streamed += piece;
  }
  EXPECT_EQ(streamed + stream.finish(), text);
}

TEST(Tokenizer, RefusesAFileOfAnotherKind) {
  const auto path = std::filesystem::path(::testing::TempDir()) / "other_tokenizer.json";
  for (const char* content :
       {"", "{}", "[1, 2]",
        R"({"model": {"type": "WordPiece"}, "pre_tokenizer": {"pretokenizers": []}})"}) {
    std::ofstream(path) << content;
    EXPECT_THROW(Tokenizer{path}, std::runtime_error) << content;
  }
  EXPECT_THROW(Tokenizer{"/nowhere/tokenizer.json"}, std::runtime_error);
}

TEST(Utf8Stream, HoldsACharacterUntilItIsWhole) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xF0\x9F"), "a");
  EXPECT_EQ(stream.push("\x98"), "");
  EXPECT_EQ(stream.push("\x8A!"), "😊!");
  EXPECT_EQ(stream.finish(), "");
}

TEST(Utf8Stream, ReplacesBrokenBytesAndGoesOn) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xFFz\xC3(\xE2\x82z"), "a\uFFFDz\uFFFD(\uFFFDz");
  EXPECT_EQ(stream.push("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD") << "a surrogate is no character";
  EXPECT_EQ(stream.push("\xE2\x82"), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

TEST(ChatTemplate, RendersTheModelsFormat) {
  if (!model_is_there()) GTEST_SKIP() << no_model();
  const ChatTemplate chat(model_folder() / "tokenizer_config.json");
  EXPECT_EQ(chat.render("Hi", "Be brief."),
            "<|im_start|>system\nBe "
            "brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_NE(chat.render("Hi").find("You are a helpful AI assistant named SmolLM"),
            std::string::npos);
}

TEST(ChatTemplate, RefusesWhatIsNotChatMl) {
  const auto path = std::filesystem::path(::testing::TempDir()) / "other_template.json";
  std::ofstream(path) << R"({"chat_template": "[INST] {{ messages[0]['content'] }} [/INST]"})";
  EXPECT_THROW(ChatTemplate{path}, std::runtime_error);
}

}  // namespace
}  // namespace djinn::examples
