#include "lib/hash/block_hash.h"

// Hashed in place: a block is short, and a call through the library costs as much as the hash.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <array>
#include <bit>
#include <msgpack.hpp>

static_assert(std::endian::native == std::endian::little,
              "tokens and hashes are hashed where they lie, as little-endian integers");

namespace conductor::hash {
namespace {

template <typename Pack>
std::string Packed(Pack pack) {
  msgpack::sbuffer buffer;
  msgpack::packer<msgpack::sbuffer> packer(buffer);
  pack(packer);
  return {buffer.data(), buffer.size()};
}

void PackText(msgpack::packer<msgpack::sbuffer>& packer, std::string_view text) {
  packer.pack_str(static_cast<uint32_t>(text.size()));
  packer.pack_str_body(text.data(), static_cast<uint32_t>(text.size()));
}

}  // namespace

std::string TextKey(std::string_view text) {
  return Packed([&](auto& packer) { PackText(packer, text); });
}

std::string ItemKey(std::string_view identifier, int64_t offset) {
  return Packed([&](auto& packer) {
    packer.pack_array(2);
    PackText(packer, identifier);
    packer.pack_int64(offset);
  });
}

std::string IntegerKey(int64_t number) {
  return Packed([&](auto& packer) { packer.pack_int64(number); });
}

std::string BytesKey(std::string_view bytes) {
  return Packed([&](auto& packer) {
    packer.pack_bin(static_cast<uint32_t>(bytes.size()));
    packer.pack_bin_body(bytes.data(), static_cast<uint32_t>(bytes.size()));
  });
}

LocalHash HashBlock(std::span<const TokenId> tokens, const ExtraKeys& extra_keys, uint64_t seed) {
  if (extra_keys.empty()) {
    return LocalHash{XXH3_64bits_withSeed(tokens.data(), tokens.size_bytes(), seed)};
  }
  std::string input(reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes());
  input +=
      Packed([&](auto& packer) { packer.pack_array(static_cast<uint32_t>(extra_keys.size())); });
  for (const std::string& key : extra_keys) input += key;
  return LocalHash{XXH3_64bits_withSeed(input.data(), input.size(), seed)};
}

PrefixHash FirstPrefix(LocalHash local) { return PrefixHash{static_cast<uint64_t>(local)}; }

PrefixHash NextPrefix(PrefixHash parent, LocalHash local, uint64_t seed) {
  const std::array<uint64_t, 2> input = {static_cast<uint64_t>(parent),
                                         static_cast<uint64_t>(local)};
  return PrefixHash{XXH3_64bits_withSeed(input.data(), sizeof(input), seed)};
}

void HashChain(std::span<const TokenId> tokens, uint32_t block_size, const PrefixHash* last,
               uint64_t seed, std::span<PrefixHash> out) {
  const TokenId* block = tokens.data();
  const size_t bytes = size_t{block_size} * sizeof(TokenId);
  size_t i = 0;
  PrefixHash previous{};
  if (last == nullptr && !out.empty()) {
    previous = FirstPrefix(LocalHash{XXH3_64bits_withSeed(block, bytes, seed)});
    out[i++] = previous;
    block += block_size;
  } else if (last != nullptr) {
    previous = *last;
  }
  for (; i < out.size(); ++i, block += block_size) {
    previous = NextPrefix(previous, LocalHash{XXH3_64bits_withSeed(block, bytes, seed)}, seed);
    out[i] = previous;
  }
}

void HashBlocks(std::span<const TokenId> tokens, uint32_t block_size, uint64_t seed,
                std::span<LocalHash> out) {
  const TokenId* block = tokens.data();
  for (LocalHash& local : out) {
    local = LocalHash{XXH3_64bits_withSeed(block, size_t{block_size} * sizeof(TokenId), seed)};
    block += block_size;
  }
}

}  // namespace conductor::hash
