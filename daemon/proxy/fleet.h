#ifndef CONDUCTOR_DAEMON_PROXY_FLEET_H_
#define CONDUCTOR_DAEMON_PROXY_FLEET_H_

#include <array>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/proxy/breaker.h"
#include "daemon/proxy/engine.h"
#include "daemon/proxy/policy.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace conductor::proxy {

class Fleet;

// One request at one engine: it counts as the engine's load from the moment of the choice until it
// is released, or destroyed, whichever is first; and what became of it is told to the breaker.
class Dispatch {
 public:
  Dispatch() = default;
  ~Dispatch() { Release(); }
  Dispatch(Dispatch&& other) noexcept { *this = std::move(other); }
  Dispatch& operator=(Dispatch&& other) noexcept;

  [[nodiscard]] const Engine& engine() const { return *engine_; }
  [[nodiscard]] const std::shared_ptr<Engine>& shared_engine() const { return engine_; }
  [[nodiscard]] Reason reason() const { return reason_; }
  [[nodiscard]] const std::optional<Held>& held() const { return held_; }
  // False for one that was made by default or moved from.
  [[nodiscard]] explicit operator bool() const { return engine_ != nullptr; }

  // What became of it. An answer that began well may fail still. Without any nothing was learnt.
  void Succeeded();
  void Failed();

  // The engine has it no more, and what became of it is said later.
  void Unload();
  // The engine has it no more, and there is nothing more to say.
  void Release();

 private:
  friend class Fleet;
  Fleet* fleet_ = nullptr;  // none: released
  std::shared_ptr<Engine> engine_;
  Reason reason_ = Reason::kOnly;
  std::optional<Held> held_;
  double load_ = 0;
  bool is_loaded_ = false;
  bool is_probe_ = false;
  bool is_judged_ = false;
  bool has_failed_ = false;
};

// All engines that the proxy knows, and how they stand. The one place where requests are given to
// engines, so that every route counts. Any thread; nothing here waits.
class Fleet {
 public:
  struct Options {
    Breaker::Options breaker;
    index::ScoreWeights weights;
  };

  explicit Fleet(const Options& options) : options_(options) {}
  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;

  // Refused: one of the same name and role is there already. One that is being drained comes back.
  [[nodiscard]] Status Add(Role role, const EngineSpec& spec);
  // The same with what has been learnt of it already: where its name leads.
  [[nodiscard]] Status Add(std::shared_ptr<Engine> engine);
  // It gets no more requests, and is forgotten with the last that it has. False: not known.
  bool Remove(Role role, std::string_view name);

  struct Wish {
    Policy policy = Policy::kLeastLoaded;
    double load = 1;  // of this request
    uint64_t prompt_tokens = 0;
    // What is known of who holds how much, by the engine's name.
    const std::map<std::string, Held>* held = nullptr;
    std::span<const std::string> but_not;  // names that were tried already
  };
  // Why there is none: no engine of the role (retry_after is 0), all were tried, or all are left
  // alone for a while.
  struct None {
    bool is_open = false;
    Duration retry_after = Duration(0);
  };
  [[nodiscard]] tl::expected<Dispatch, None> Pick(Role role, const Wish& wish, MonoTime now);
  // Whether Pick() would find one now.
  [[nodiscard]] tl::expected<void, None> CanPick(Role role, std::span<const std::string> but_not,
                                                 MonoTime now) const;

  struct Standing {
    std::shared_ptr<Engine> engine;
    uint64_t in_flight = 0;
    uint64_t served = 0;
    uint64_t failed = 0;
    double load = 0;
    Breaker::State breaker = Breaker::State::kClosed;
    bool draining = false;
  };
  // In the order of their coming.
  [[nodiscard]] std::vector<Standing> Engines(MonoTime now) const;
  [[nodiscard]] std::vector<std::shared_ptr<Engine>> Engines(Role role) const;  // not draining
  // The same of several roles, one after the other.
  [[nodiscard]] std::vector<std::shared_ptr<Engine>> Engines(
      std::initializer_list<Role> roles) const;
  [[nodiscard]] bool Has(Role role) const;
  // Counts up with every engine that comes or goes.
  [[nodiscard]] uint64_t version() const;

 private:
  friend class Dispatch;
  struct Entry {
    std::shared_ptr<Engine> engine;
    Breaker breaker;
    uint64_t in_flight = 0;
    uint64_t served = 0;
    uint64_t failed = 0;
    double load = 0;
    bool draining = false;
  };
  // Whether it can be picked; where it is left alone for a while, `none` says so.
  [[nodiscard]] static bool IsAble(const Entry& entry, Role role,
                                   std::span<const std::string> but_not, MonoTime now, None& none);

  enum class Verdict : uint8_t { kSucceeded, kFailed, kUndecided };

  void Judge(const Dispatch& dispatch, Verdict verdict);
  void Release(const Dispatch& dispatch);
  Entry* Find(const Engine* engine);

  const Options options_;
  mutable std::mutex mutex_;  // guards the rest
  std::vector<Entry> entries_;
  std::array<uint64_t, 3> turns_{};  // of each role
  uint64_t version_ = 0;
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_FLEET_H_
