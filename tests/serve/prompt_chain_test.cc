#include "daemon/serve/prompt_chain.h"

#include <gtest/gtest.h>

#include <vector>

namespace conductor::serve {
namespace {

// docs/wire-formats.md, "hash profiles": seed "0", blocks of 4, LoRA "ad", salt "salt".
const std::vector<TokenId> kTokens{5, 300, 70000, 2, 1, 2, 3, 4, 9};
const hash::HashProfile kSha256{.algorithm = hash::HashAlgorithm::kSha256, .seed = "0"};
const hash::HashProfile kCbor{.algorithm = hash::HashAlgorithm::kSha256Cbor, .seed = "0"};

TEST(PromptNames, AreWhatTheEngineAnnounces) {
  PromptNames names(kTokens, 4, "ad", "salt");
  EXPECT_EQ(names.At(kSha256, 0), EngineHash{3345080164067599146U});
  EXPECT_EQ(names.At(kSha256, 1), EngineHash{14426398453158776752U});
  EXPECT_EQ(names.At(kCbor, 0), EngineHash{3555145006022875684U});
  EXPECT_EQ(names.At(kCbor, 1), EngineHash{18030189949638683711U});
  EXPECT_EQ(names.At(kSha256, 0), EngineHash{3345080164067599146U});
}

TEST(PromptNames, EndWithTheWholeBlocks) {
  PromptNames names(kTokens, 4, "", "");
  EXPECT_TRUE(names.At(kSha256, 1));
  EXPECT_FALSE(names.At(kSha256, 2));
}

TEST(PromptNames, OfABlockOfSeveralHashBlocksAreThatOfTheLast) {
  hash::HashProfile halves = kSha256;
  halves.hash_block_size = 2;
  PromptNames whole(kTokens, 4, "", "");
  PromptNames small(kTokens, 2, "", "");
  EXPECT_EQ(whole.At(halves, 0), small.At(kSha256, 1));
  EXPECT_EQ(whole.At(halves, 1), small.At(kSha256, 3));
  halves.hash_block_size = 3;
  EXPECT_FALSE(whole.At(halves, 0));
}

}  // namespace
}  // namespace conductor::serve
