// Registry: copying publishers for a snapshot, and going on from one.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>
#include <variant>

#include "daemon/serve/registration_json.h"
#include "daemon/serve/registry_impl.h"
#include "lib/index/chain_restore.h"

namespace conductor::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kOfAnotherType = "what it held is no publisher's of its type";

// How long ago that was; where the clock was set back meanwhile, longer than anything lasts.
Duration Since(double unix_time) {
  constexpr double kLong = 1e9;  // thirty years
  const double seconds = UnixNow() - unix_time;
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(seconds < 0 ? kLong : std::min(seconds, kLong)));
}

Result<Registration> ReadSaved(const store::SavedPublisher& saved) {
  const Json object = Json::parse(saved.registration, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return Fail("its registration is no JSON object", saved.key);
  const RegistrationFields fields = ReadRegistration(object, std::nullopt);
  if (!fields.problems.empty()) {
    const FieldProblem& problem = fields.problems.front();
    return Fail(
        fmt::format("its registration cannot be used: {} {}", problem.field.Dotted(), problem.what),
        saved.key, problem.expected);
  }
  if (auto valid = Validate(fields.registration); !valid) {
    return tl::unexpected(Error(valid.error()).Within(saved.key));
  }
  if (fields.registration.Key() != saved.key) {
    return Fail("its registration is another publisher's", saved.key, fields.registration.Key());
  }
  return fields.registration;
}

// What of a registration decides how events are understood: the rest may change and what is held
// stays true.
Registration AsFarAsItCounts(Registration registration) {
  registration.bytes_per_block = 0;
  registration.incarnation.clear();
  return registration;
}

// Why what is held under `saved` cannot go on under `now`; empty: it can.
std::string WhyNotHeld(const Registration& saved, const Registration& now) {
  if (AsFarAsItCounts(saved) != AsFarAsItCounts(now)) {
    return fmt::format("it is registered with other values of {} now",
                       fmt::format("{}", fmt::join(DifferingFields(saved, now), ", ")));
  }
  if (!saved.incarnation.empty() && !now.incarnation.empty() &&
      saved.incarnation != now.incarnation) {
    return fmt::format("it is registered as another life, '{}'", now.incarnation);
  }
  return {};
}

// Takes the rows of a file to the holders and spaces that were made for them.
class Joining : public store::ChainVisitor {
 public:
  explicit Joining(index::ChainRestore& restore) : restore_(restore) {}

  void AddHolder(uint32_t id, index::HolderId holder) { At(holders_, id) = holder; }
  void AddSpace(uint32_t id, index::AliasSpace space) { At(spaces_, id) = space; }
  void AddPoolSpace(uint32_t id, ingest::SavedPool::Space space) {
    At(spaces_, id) = std::move(space);
  }
  // What is held by nobody who comes back: (block, holder, tier), and objects.
  [[nodiscard]] uint64_t left_out() const { return left_out_; }
  // Objects of a pool.
  void LeaveOut(size_t objects) { left_out_ += objects; }

  void OnRun(const Run& run) override {
    const auto parent = run.parent ? std::optional(*run.parent - 1) : std::nullopt;
    restore_.AddRun(*run.name_space, parent, run.parent_block, run.blocks);
  }
  void OnHolding(uint32_t run, uint32_t holder, Tier tier, uint64_t blocks) override {
    if (const auto id = At(holders_, holder)) {
      restore_.Hold(run - 1, *id, tier, blocks);
    } else {
      left_out_ += static_cast<uint64_t>(std::popcount(blocks));
    }
  }
  void OnSpecial(uint32_t run, uint32_t holder, Tier tier, uint32_t block, uint32_t span,
                 uint32_t copies) override {
    if (const auto id = At(holders_, holder)) {
      restore_.HoldSpecial(run - 1, block, *id, tier, span, copies);
    }
  }
  void OnNamesAhead(uint64_t count) override { restore_.ExpectNames(count); }
  void OnNames(uint32_t run, uint32_t space, uint64_t blocks,
               std::span<const EngineHash> names) override {
    const auto& to = At(spaces_, space);
    if (const auto* id = std::get_if<index::AliasSpace>(&to)) {
      restore_.Name(run - 1, *id, blocks, names);
    } else if (const auto* pool = std::get_if<ingest::SavedPool::Space>(&to)) {
      JoinNames(run, space, *pool, blocks, names);
    }
  }
  void OnSpan(uint32_t run, uint32_t block, uint32_t space, EngineHash name,
              uint32_t span) override {
    const auto& to = At(spaces_, space);
    if (const auto* id = std::get_if<index::AliasSpace>(&to)) {
      restore_.SetSpan(run - 1, block, *id, name, span);
    } else if (std::holds_alternative<ingest::SavedPool::Space>(to)) {
      pool_spans_[{space, run, block, name}] = span;
    }
  }

 private:
  void JoinNames(uint32_t run, uint32_t space, const ingest::SavedPool::Space& pool,
                 uint64_t blocks, std::span<const EngineHash> names) {
    std::vector<uint32_t> spans(names.size(), 1);
    size_t i = 0;
    for (uint64_t mask = blocks; !pool_spans_.empty() && mask != 0; mask &= mask - 1, ++i) {
      const auto block = static_cast<uint32_t>(std::countr_zero(mask));
      const auto span = pool_spans_.find({space, run, block, names[i]});
      if (span != pool_spans_.end()) spans[i] = span->second;
    }
    restore_.Join(run - 1, pool.domain, pool.group, blocks, names, spans);
  }

  template <typename T>
  static T& At(std::vector<T>& all, uint32_t id) {
    if (id >= all.size()) all.resize(id + 1);
    return all[id];
  }

  index::ChainRestore& restore_;
  std::vector<std::optional<index::HolderId>> holders_;  // by id; nothing: nobody's any more
  std::vector<std::variant<std::monostate, index::AliasSpace, ingest::SavedPool::Space>> spaces_;
  uint64_t left_out_ = 0;
  std::map<std::tuple<uint32_t, uint32_t, uint32_t, EngineHash>, uint32_t> pool_spans_;
};

// One publisher on its way from a file.
struct Returning {
  store::StoredPublisher* stored;
  Registration registration;
  bool held = false;  // with what it held
  uint64_t waiting_dropped = 0;
};

}  // namespace

std::vector<std::string> Registry::Keys() const {
  const std::lock_guard lock(impl_->mutex);
  std::vector<std::string> keys;
  for (const auto& [key, entry] : impl_->entries) {
    if (entry.id) keys.push_back(key);
  }
  return keys;
}

Result<std::optional<store::SavedPublisher>> Registry::Copy(const std::string& key) const {
  store::SavedPublisher saved{.key = key};
  stream::Transport::PublisherId id = 0;
  {
    const std::lock_guard lock(impl_->mutex);
    const auto found = impl_->entries.find(key);
    if (found == impl_->entries.end() || !found->second.id || found->second.still) {
      return std::nullopt;
    }
    id = *found->second.id;
    saved.registration = RegistrationJson(*found->second.registration)
                             .dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  std::unique_ptr<PublisherCopy> copy;
  std::optional<std::string> failed;
  const bool done = impl_->transport.RunHeld(
      id, [&](stream::PublisherStream& stream, stream::Consumer& consumer) {
        try {
          if (copy) return copy->Step();
          saved.saved_at = UnixNow();
          saved.state = stream::TrustStateName(stream.trust().state);
          saved.reason = stream.trust().reason;
          saved.detail = stream.trust().detail;
          saved.resume = stream.resume();
          if (!saved.resume) return false;
          // All consumers of the registry's transport are such.
          copy = static_cast<PublisherConsumer&>(consumer).BeginCopy(MonoNow());
          return true;
        } catch (const std::exception& error) {  // no memory
          failed = error.what();
          return false;
        }
      });
  if (failed) return Fail("cannot be copied: " + *failed, key);
  if (!done) return std::nullopt;
  if (copy) copy->Take(saved);
  return saved;
}

Result<Registry::Restored> Registry::Restore(store::SnapshotReader& reader,
                                             const RestoreOptions& options) {
  if (reader.info().hash_seed != impl_->options.index.hash_seed) {
    return Fail(fmt::format("its blocks are hashed with seed {}", reader.info().hash_seed),
                reader.info().path,
                fmt::format("seed {}, as they are now", impl_->options.index.hash_seed));
  }
  // Where this ends by an exception, which is that there is no memory, the index may be anything
  // between empty and full: it begins anew, once all that uses it has left.
  struct BeginAnew {
    Registry& registry;
    int exceptions = std::uncaught_exceptions();

    ~BeginAnew() {
      if (std::uncaught_exceptions() == exceptions) return;
      Impl& impl = *registry.impl_;
      for (const std::string& key : registry.Keys()) (void)registry.Remove(key);
      {
        const std::lock_guard lock(impl.mutex);
        while (!impl.entries.empty()) impl.Erase(std::string(impl.entries.begin()->first));
      }
      std::destroy_at(&impl.index);
      std::construct_at(&impl.index, impl.options.index);
    }
  };
  const BeginAnew begin_anew{*this};
  auto stored = reader.Publishers();
  if (!stored) return tl::unexpected(stored.error());
  Restored restored;
  const auto leave_out = [&restored](const std::string& key, std::string why) {
    restored.left_out.push_back({std::move(why), key, {}});
  };

  // Who comes back, and as what.
  Reservations configured;
  std::map<std::string, const Registration*> by_key;
  if (options.followed) {
    for (const Registration& registration : options.configured) {
      if (!by_key.emplace(registration.Key(), &registration).second) continue;
      if (!configured.FindConflict(registration)) {
        configured.Add(registration, registration.Key());
      }
    }
  }
  std::vector<Returning> returning;
  // What they held does not come back, whether they do or not.
  std::vector<const store::SavedPublisher*> left_out;
  for (store::StoredPublisher& publisher : *stored) {
    const store::SavedPublisher& saved = publisher.saved;
    if (saved.resume) left_out.push_back(&saved);
    auto registration = ReadSaved(saved);
    if (!registration) {
      restored.left_out.push_back(std::move(registration.error()));
      continue;
    }
    const bool is_its_own = IsPool(registration->type) == saved.pool.has_value();
    const bool held = saved.resume.has_value() && is_its_own;
    if (const auto known = by_key.find(saved.key); known != by_key.end()) {
      // The file's own word, with what was held where that means the same.
      if (const std::string why = WhyNotHeld(*registration, *known->second); !why.empty()) {
        if (saved.resume) leave_out(saved.key, "what it held is dropped: " + why);
        continue;
      }
      *registration = *known->second;
      if (!held) {
        if (saved.resume) leave_out(saved.key, kOfAnotherType);
        continue;
      }
    } else if (options.followed && saved.configured) {
      leave_out(saved.key, "the configuration file does not have it any more");
      continue;
    } else if (const auto conflict = configured.FindConflict(*registration)) {
      leave_out(saved.key, fmt::format("its endpoint {} is {}'s in the configuration file",
                                       registration->endpoint, conflict->holder));
      continue;
    }
    if (held) {
      left_out.pop_back();
    } else if (saved.resume) {
      leave_out(saved.key, kOfAnotherType);
    }
    returning.push_back({&publisher, *std::move(registration), held});
  }

  // What they hold, all at once: chains are shared.
  std::vector<Impl::Prepared> prepared;
  std::vector<uint32_t> numbers;
  for (const Returning& publisher : returning) {
    numbers.push_back(impl_->next_number++);
    prepared.push_back(impl_->Prepare(publisher.registration, numbers.back()));
  }
  Status visited;
  uint64_t left_out_holdings = 0;
  {
    auto writer = impl_->index.Write();
    index::ChainRestore chains(writer);
    Joining joining(chains);
    for (size_t i = 0; i < returning.size(); ++i) {
      const store::StoredPublisher& from = *returning[i].stored;
      if (!returning[i].held) continue;
      if (EngineConsumer* engine = prepared[i].engine) {
        const auto ids = engine->Restore(writer, *from.saved.life, Since(from.saved.saved_at));
        returning[i].waiting_dropped = ids.waiting_dropped;
        for (size_t k = 0; k < from.holders.size(); ++k) {
          joining.AddHolder(from.holders[k], ids.holders[k]);
        }
        for (size_t k = 0; k < from.spaces.size(); ++k) {
          joining.AddSpace(from.spaces[k], ids.spaces[k]);
        }
      } else {
        for (size_t k = 0; k < from.spaces.size(); ++k) {
          joining.AddPoolSpace(from.spaces[k], from.saved.pool->spaces[k]);
        }
      }
    }
    visited = reader.VisitChains(joining);
    for (size_t i = 0; visited && i < returning.size(); ++i) {
      if (!returning[i].held || prepared[i].pool == nullptr) continue;
      const store::SavedPublisher& saved = returning[i].stored->saved;
      prepared[i].pool->Restore(writer, *saved.pool, Since(saved.saved_at));
    }
    if (visited) visited = reader.VisitPoolNames(joining);
    for (const store::SavedPublisher* saved : left_out) {
      if (saved->pool) joining.LeaveOut(saved->pool->objects.size());
    }
    left_out_holdings = joining.left_out();
    chains.Finish();
  }
  // Consumers take what they hold with them.
  if (!visited) return tl::unexpected(visited.error());
  impl_->restored->left_out = left_out.size();
  impl_->restored->left_out_holdings = left_out_holdings;

  for (size_t i = 0; i < returning.size(); ++i) {
    Returning& publisher = returning[i];
    const std::string key = publisher.registration.Key();
    store::SavedPublisher& saved = publisher.stored->saved;
    std::optional<stream::Resume> resume;
    uint64_t holdings = 0;
    if (publisher.held) {
      resume = std::move(saved.resume);
      if (saved.life && saved.life->trimmed > 0 && resume->damage == stream::Damage::Kind::kNone) {
        resume->damage = stream::Damage::Kind::kIncomplete;
        resume->damage_detail = fmt::format(
            "{} of its blocks had been given up for room when it was saved: raise --memory-limit",
            saved.life->trimmed);
      }
      if (publisher.waiting_dropped > 0 && resume->damage == stream::Damage::Kind::kNone) {
        resume->damage = stream::Damage::Kind::kIncomplete;
        resume->damage_detail =
            fmt::format("{} of its events that waited for their parents had no room any more",
                        publisher.waiting_dropped);
      }
      holdings = prepared[i].consumer->Holdings();
    }
    const auto lost = [&](std::string why) {
      leave_out(key, std::move(why));
      if (!publisher.held) return;
      ++impl_->restored->dropped;
      impl_->restored->dropped_holdings += holdings;
    };
    {
      const std::lock_guard lock(impl_->mutex);
      const auto reserved = impl_->Reserve(publisher.registration, Profiles::kMayDiffer);
      if (!reserved || *reserved != Added::kNew) {
        lost(reserved ? "it is there twice" : reserved.error().Message());
        continue;
      }
    }
    if (!options.followed) {
      prepared[i].consumer->TrustChanged(
          {stream::TrustState::kStale, "unconfirmed",
           fmt::format("as it was when it was saved, {} then; nobody listens to it", saved.state)});
      const std::lock_guard lock(impl_->mutex);
      Entry& entry = impl_->entries.at(key);
      entry.id = 0;
      entry.board = prepared[i].board;
      entry.still = std::move(prepared[i].consumer);
      entry.still->ShowCounters();
      impl_->changes->fetch_add(1);
    } else {
      if (publisher.held) prepared[i].consumer->Restored(holdings, impl_->restored);
      auto following = impl_->Follow(publisher.registration, numbers[i], std::move(prepared[i]),
                                     std::move(resume));
      const std::lock_guard lock(impl_->mutex);
      if (!following) {
        impl_->Erase(key);
        if (publisher.held) --impl_->restored->undecided;
        lost(following.error().Message());
        continue;
      }
      Impl::Enter(impl_->entries.at(key), *std::move(following));
      impl_->changes->fetch_add(1);
    }
    ++restored.publishers;
    if (publisher.held) ++restored.with_blocks;
    restored.holdings += holdings;
  }
  return restored;
}

const RestoreTally& Registry::restored() const { return *impl_->restored; }

}  // namespace conductor::serve
