#include "daemon/proxy/fleet.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace conductor::proxy {

Dispatch& Dispatch::operator=(Dispatch&& other) noexcept {
  if (this == &other) return *this;
  Release();
  fleet_ = std::exchange(other.fleet_, nullptr);
  engine_ = std::move(other.engine_);
  reason_ = other.reason_;
  held_ = other.held_;
  load_ = other.load_;
  is_loaded_ = std::exchange(other.is_loaded_, false);
  is_probe_ = other.is_probe_;
  is_judged_ = other.is_judged_;
  has_failed_ = other.has_failed_;
  return *this;
}

void Dispatch::Succeeded() {
  if (fleet_ == nullptr || std::exchange(is_judged_, true)) return;
  fleet_->Judge(*this, Fleet::Verdict::kSucceeded);
}

void Dispatch::Failed() {
  if (fleet_ == nullptr || std::exchange(has_failed_, true)) return;
  if (std::exchange(is_judged_, true)) is_probe_ = false;
  fleet_->Judge(*this, Fleet::Verdict::kFailed);
}

void Dispatch::Unload() {
  if (fleet_ != nullptr && std::exchange(is_loaded_, false)) fleet_->Release(*this);
}

void Dispatch::Release() {
  if (fleet_ == nullptr) return;
  if (!std::exchange(is_judged_, true)) fleet_->Judge(*this, Fleet::Verdict::kUndecided);
  Unload();
  fleet_ = nullptr;
}

Status Fleet::Add(Role role, const EngineSpec& spec) {
  return Add(std::make_shared<Engine>(role, spec));
}

Status Fleet::Add(std::shared_ptr<Engine> engine) {
  const std::string& name = engine->name();
  const Role role = engine->role();
  const std::lock_guard lock(mutex_);
  for (Entry& entry : entries_) {
    if (entry.engine->role() != role || entry.engine->name() != name) continue;
    if (!entry.draining) {
      return Fail(fmt::format("is there already as a {} engine", RoleName(role)), name);
    }
    entry.draining = false;
    ++version_;
    return {};
  }
  entries_.push_back({std::move(engine), Breaker(options_.breaker)});
  ++version_;
  return {};
}

bool Fleet::Remove(Role role, std::string_view name) {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(entries_, [&](const Entry& entry) {
    return entry.engine->role() == role && entry.engine->name() == name && !entry.draining;
  });
  if (found == entries_.end()) return false;
  found->draining = true;
  if (found->in_flight == 0) entries_.erase(found);
  ++version_;
  return true;
}

bool Fleet::IsAble(const Entry& entry, Role role, std::span<const std::string> but_not,
                   MonoTime now, None& none) {
  if (entry.engine->role() != role || entry.draining ||
      std::ranges::find(but_not, entry.engine->name()) != but_not.end()) {
    return false;
  }
  if (entry.breaker.Admits(now)) return true;
  const Duration left = entry.breaker.Left(now);
  none.retry_after = none.is_open ? std::min(none.retry_after, left) : left;
  none.is_open = true;
  return false;
}

tl::expected<void, Fleet::None> Fleet::CanPick(Role role, std::span<const std::string> but_not,
                                               MonoTime now) const {
  const std::lock_guard lock(mutex_);
  None none;
  const bool is_any = std::ranges::any_of(
      entries_, [&](const Entry& entry) { return IsAble(entry, role, but_not, now, none); });
  if (!is_any) return tl::unexpected(none);
  return {};
}

tl::expected<Dispatch, Fleet::None> Fleet::Pick(Role role, const Wish& wish, MonoTime now) {
  const std::lock_guard lock(mutex_);
  std::vector<Entry*> able;
  std::vector<Candidate> candidates;
  None none;
  for (Entry& entry : entries_) {
    if (!IsAble(entry, role, wish.but_not, now, none)) continue;
    Candidate candidate{.load = entry.load, .served = entry.served};
    if (wish.held != nullptr) {
      const auto held = wish.held->find(entry.engine->name());
      if (held != wish.held->end()) candidate.held = held->second;
    }
    able.push_back(&entry);
    candidates.push_back(candidate);
  }
  if (able.empty()) return tl::unexpected(none);
  const Choice choice = Choose(wish.policy, candidates, wish.prompt_tokens, options_.weights,
                               turns_[static_cast<size_t>(role)]++);
  Entry& entry = *able[choice.candidate];
  ++entry.in_flight;
  ++entry.served;
  entry.load += wish.load;
  Dispatch dispatch;
  dispatch.fleet_ = this;
  dispatch.engine_ = entry.engine;
  dispatch.reason_ = choice.reason;
  dispatch.held_ = candidates[choice.candidate].held;
  dispatch.load_ = wish.load;
  dispatch.is_loaded_ = true;
  dispatch.is_probe_ = entry.breaker.Begin(now);
  return dispatch;
}

void Fleet::Judge(const Dispatch& dispatch, Verdict verdict) {
  const std::lock_guard lock(mutex_);
  Entry* const entry = Find(dispatch.engine_.get());
  if (entry == nullptr) return;
  switch (verdict) {
    case Verdict::kSucceeded:
      return entry->breaker.Succeeded();
    case Verdict::kFailed:
      ++entry->failed;
      return entry->breaker.Failed(MonoNow(), dispatch.is_probe_);
    case Verdict::kUndecided:
      return entry->breaker.Undecided(dispatch.is_probe_);
  }
}

void Fleet::Release(const Dispatch& dispatch) {
  const std::lock_guard lock(mutex_);
  Entry* const entry = Find(dispatch.engine_.get());
  if (entry == nullptr) return;
  --entry->in_flight;
  // What is left of rounding is nothing.
  entry->load = entry->in_flight == 0 ? 0 : entry->load - dispatch.load_;
  if (entry->draining && entry->in_flight == 0) {
    std::erase_if(entries_, [&](const Entry& one) { return &one == entry; });
  }
}

Fleet::Entry* Fleet::Find(const Engine* engine) {
  const auto found = std::ranges::find_if(
      entries_, [&](const Entry& entry) { return entry.engine.get() == engine; });
  return found == entries_.end() ? nullptr : &*found;
}

std::vector<Fleet::Standing> Fleet::Engines(MonoTime now) const {
  const std::lock_guard lock(mutex_);
  std::vector<Standing> all;
  for (const Entry& entry : entries_) {
    all.push_back({entry.engine, entry.in_flight, entry.served, entry.failed, entry.load,
                   entry.breaker.state(now), entry.draining});
  }
  return all;
}

std::vector<std::shared_ptr<Engine>> Fleet::Engines(Role role) const { return Engines({role}); }

std::vector<std::shared_ptr<Engine>> Fleet::Engines(std::initializer_list<Role> roles) const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Engine>> all;
  for (const Role role : roles) {
    for (const Entry& entry : entries_) {
      if (entry.engine->role() == role && !entry.draining) all.push_back(entry.engine);
    }
  }
  return all;
}

bool Fleet::Has(Role role) const { return !Engines(role).empty(); }

uint64_t Fleet::version() const {
  const std::lock_guard lock(mutex_);
  return version_;
}

}  // namespace conductor::proxy
