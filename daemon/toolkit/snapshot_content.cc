#include "daemon/toolkit/snapshot_content.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

namespace conductor::toolkit {

class SnapshotContent::Visitor : public store::ChainVisitor {
 public:
  explicit Visitor(SnapshotContent& content) : content_(content) {}

  // `id`: of a holder in the file. Its place must have been made.
  void Expect(uint32_t id, uint32_t holder) {
    if (id >= holder_of_.size()) holder_of_.resize(id + 1, 0);
    holder_of_[id] = holder;
  }
  [[nodiscard]] uint32_t NamespaceOf(const index::NamespaceKey& key) {
    const auto [found, fresh] =
        namespace_of_.try_emplace(key, static_cast<uint32_t>(content_.namespaces_.size()));
    if (fresh) content_.namespaces_.push_back(key);
    return found->second;
  }

  void OnRun(const Run& run) override {
    if (run.name_space != last_key_) {
      last_key_ = run.name_space;
      last_ = NamespaceOf(*run.name_space);
    }
    const PrefixHash root = run.parent ? content_.runs_[*run.parent - 1].root : run.blocks.front();
    content_.runs_.push_back({.first = content_.prefixes_.size(),
                              .root = root,
                              .name_space = last_,
                              .parent = run.parent ? *run.parent - 1 : kNoRun,
                              .position = run.position,
                              .parent_block = static_cast<uint8_t>(run.parent_block),
                              .length = static_cast<uint8_t>(run.blocks.size())});
    content_.prefixes_.insert(content_.prefixes_.end(), run.blocks.begin(), run.blocks.end());
  }
  void OnHolding(uint32_t run, uint32_t holder, Tier tier, uint64_t blocks) override {
    content_.held_[holder_of_[holder]].holdings.push_back({run - 1, tier, blocks});
  }
  void OnSpecial(uint32_t run, uint32_t holder, Tier tier, uint32_t block, uint32_t span,
                 uint32_t copies) override {
    content_.held_[holder_of_[holder]].special.push_back(
        {run - 1, tier, static_cast<uint8_t>(block), span, copies});
  }

 private:
  SnapshotContent& content_;
  std::vector<uint32_t> holder_of_;  // by id; every one that the file has is in it
  std::map<index::NamespaceKey, uint32_t> namespace_of_;
  const index::NamespaceKey* last_key_ = nullptr;
  uint32_t last_ = 0;
};

Result<SnapshotContent> SnapshotContent::Read(store::SnapshotReader& reader) {
  SnapshotContent content;
  content.info_ = reader.info();
  auto stored = reader.Publishers();
  if (!stored) return tl::unexpected(std::move(stored.error()));
  Visitor visitor(content);
  for (store::StoredPublisher& publisher : *stored) {
    const std::string instance = InstanceOf(publisher.saved);
    for (size_t i = 0; i < publisher.holders.size(); ++i) {
      const auto& holder = publisher.saved.life->holders[i];
      visitor.Expect(publisher.holders[i], static_cast<uint32_t>(content.holders_.size()));
      content.holders_.push_back({.publisher = publisher.saved.key,
                                  .instance_id = instance,
                                  .dp_rank = holder.dp_rank,
                                  .name_space = visitor.NamespaceOf(holder.name_space)});
    }
    content.publishers_.push_back(std::move(publisher.saved));
  }
  content.held_.resize(content.holders_.size());
  if (auto visited = reader.VisitChains(visitor); !visited) {
    return tl::unexpected(std::move(visited.error()));
  }
  for (Held& held : content.held_) {
    std::ranges::sort(held.holdings, {},
                      [](const Holding& holding) { return std::pair(holding.run, holding.tier); });
    std::ranges::sort(held.special, {}, [](const Special& special) {
      return std::tuple(special.run, special.tier, special.block);
    });
  }
  return content;
}

std::span<const PrefixHash> SnapshotContent::Blocks(uint32_t run) const {
  return std::span(prefixes_).subspan(runs_[run].first, runs_[run].length);
}

std::optional<std::pair<uint32_t, uint32_t>> SnapshotContent::Before(uint32_t run,
                                                                     uint32_t block) const {
  if (block > 0) return std::pair(run, block - 1);
  if (runs_[run].parent == kNoRun) return std::nullopt;
  return std::pair(runs_[run].parent, uint32_t{runs_[run].parent_block});
}

std::string InstanceOf(const store::SavedPublisher& publisher) {
  const auto registration =
      nlohmann::json::parse(publisher.registration, nullptr, /*allow_exceptions=*/false);
  if (registration.is_object()) {
    const auto found = registration.find("instance_id");
    if (found != registration.end() && found->is_string()) return found->get<std::string>();
  }
  return publisher.key.substr(0, publisher.key.find('|'));
}

std::string HashText(PrefixHash hash) {
  return fmt::format("{:016x}", static_cast<uint64_t>(hash));
}

}  // namespace conductor::toolkit
