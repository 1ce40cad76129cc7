#include "daemon/serve/prompt_chain.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <span>
#include <stop_token>
#include <vector>

namespace conductor::serve {
namespace {

// docs/wire-formats.md, "hash profiles": seed "0", blocks of 4, LoRA "ad", salt "salt".
const std::vector<TokenId> kTokens{5, 300, 70000, 2, 1, 2, 3, 4, 9};
const hash::HashProfile kSha256{.algorithm = hash::HashAlgorithm::kSha256, .seed = "0"};
const hash::HashProfile kCbor{.algorithm = hash::HashAlgorithm::kSha256Cbor, .seed = "0"};

TEST(PromptNames, AreWhatTheEngineAnnounces) {
  const std::vector<hash::ExtraKeys> salted = WithSalt({}, "salt");
  PromptNames names({kTokens, salted}, 4, "ad");
  EXPECT_EQ(names.At(kSha256, 0), EngineHash{3345080164067599146U});
  EXPECT_EQ(names.At(kSha256, 1), EngineHash{14426398453158776752U});
  EXPECT_EQ(names.At(kCbor, 0), EngineHash{3555145006022875684U});
  EXPECT_EQ(names.At(kCbor, 1), EngineHash{18030189949638683711U});
  EXPECT_EQ(names.At(kSha256, 0), EngineHash{3345080164067599146U});
}

TEST(PromptNames, EndWithTheWholeBlocks) {
  PromptNames names({kTokens, {}}, 4, "");
  EXPECT_TRUE(names.At(kSha256, 1));
  EXPECT_FALSE(names.At(kSha256, 2));
}

TEST(PromptNames, OfABlockOfSeveralHashBlocksAreThatOfTheLast) {
  hash::HashProfile halves = kSha256;
  halves.hash_block_size = 2;
  PromptNames whole({kTokens, {}}, 4, "");
  PromptNames small({kTokens, {}}, 2, "");
  EXPECT_EQ(whole.At(halves, 0), small.At(kSha256, 1));
  EXPECT_EQ(whole.At(halves, 1), small.At(kSha256, 3));
  halves.hash_block_size = 3;
  EXPECT_FALSE(whole.At(halves, 0));
}

TEST(PromptNames, HaveTheKeysOfTheirBlocks) {
  const hash::ExtraKeys image{hash::ItemKey("image", 3)};
  const std::vector<hash::ExtraKeys> keys = WithSalt({image, image}, "salt");
  ASSERT_EQ(keys.size(), 2U);
  EXPECT_EQ(keys[0], (hash::ExtraKeys{hash::ItemKey("image", 3), hash::TextKey("salt")}));
  PromptNames names({kTokens, keys}, 4, "");
  hash::VllmHasher hasher(kSha256);
  const auto first = hasher.Next(hasher.root(), std::span(kTokens).first(4), keys[0]);
  const auto second = hasher.Next(*first, std::span(kTokens).subspan(4, 4), keys[1]);
  EXPECT_EQ(names.At(kSha256, 0), hash::VllmHasher::NameOf(*first));
  EXPECT_EQ(names.At(kSha256, 1), hash::VllmHasher::NameOf(*second));
}

TEST(WithSalt, StandsBehindAllButPromptEmbeds) {
  EXPECT_EQ(WithSalt({}, ""), std::vector<hash::ExtraKeys>{});
  EXPECT_EQ(WithSalt({{hash::BytesKey("digest")}}, "s"),
            (std::vector<hash::ExtraKeys>{{hash::TextKey("s"), hash::BytesKey("digest")}}));
}

std::vector<PrefixHash> ChainOf(const PromptView& prompt, size_t at_once) {
  PromptChain chain(prompt, 2, hash::kDefaultSeed);
  std::vector<PrefixHash> all;
  std::vector<PrefixHash> some(at_once);
  for (;;) {
    const size_t got = chain.Next(some);
    all.insert(all.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(got));
    if (got < at_once) return all;
  }
}

TEST(PromptChain, HasTheKeysOfEachBlockHoweverItIsRead) {
  const std::vector<hash::ExtraKeys> keys{{}, {hash::TextKey("image")}};
  const std::vector<PrefixHash> chain = ChainOf({kTokens, keys}, 1);
  ASSERT_EQ(chain.size(), 4U);
  EXPECT_EQ(ChainOf({kTokens, keys}, 3), chain);
  EXPECT_EQ(ChainOf({kTokens, keys}, 32), chain);
  const std::vector<PrefixHash> plain = ChainOf({kTokens, {}}, 4);
  EXPECT_EQ(chain[0], plain[0]);
  const LocalHash second =
      hash::HashBlock(std::span(kTokens).subspan(2, 2), keys[1], hash::kDefaultSeed);
  EXPECT_EQ(chain[1], hash::NextPrefix(chain[0], second, hash::kDefaultSeed));
  EXPECT_NE(chain[2], plain[2]);
}

TEST(BoundedSource, EndsWhereABoundIsReached) {
  std::vector<PrefixHash> some(1);
  {
    PromptChain chain({kTokens, {}}, 1, hash::kDefaultSeed);
    std::stop_source stop;
    const QueryBounds bounds(stop.get_token());
    BoundedSource source(chain, bounds);
    EXPECT_EQ(source.Next(some), 1U);
    stop.request_stop();
    EXPECT_EQ(source.Next(some), 0U);
  }
  const std::vector<TokenId> many(1000);
  PromptChain chain({many, {}}, 1, hash::kDefaultSeed);
  const QueryBounds late({}, MonoNow());
  BoundedSource source(chain, late);
  size_t got = 0;
  while (source.Next(some) == 1) ++got;
  EXPECT_LT(got, 100U);
}

}  // namespace
}  // namespace conductor::serve
