#ifndef CONDUCTOR_LIB_STREAM_GUARDED_CONSUMER_H_
#define CONDUCTOR_LIB_STREAM_GUARDED_CONSUMER_H_

#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "lib/base/log.h"
#include "lib/stream/consumer.h"

namespace conductor::stream {

// Keeps what a consumer throws from the ingest thread, which other publishers share: the batch
// counts as lost, and the first failure in a row is logged.
class GuardedConsumer : public Consumer {
 public:
  GuardedConsumer(std::string name, std::unique_ptr<Consumer> consumer)
      : name_(std::move(name)), consumer_(std::move(consumer)) {}

  Applied Apply(Sequence sequence, std::string_view payload) override {
    Applied applied;
    if (!Guard("Apply", [&] { applied = consumer_->Apply(sequence, payload); })) {
      return {
          .holds_nothing = false, .lost = Lost::kRemovals, .what = "an error of Conductor's own"};
    }
    told_ = false;
    return applied;
  }
  void NewLife() override {
    Guard("NewLife", [&] { consumer_->NewLife(); });
  }
  void BeginRebuild() override {
    Guard("BeginRebuild", [&] { consumer_->BeginRebuild(); });
  }
  void CommitRebuild() override {
    Guard("CommitRebuild", [&] { consumer_->CommitRebuild(); });
  }
  void AbandonRebuild() override {
    Guard("AbandonRebuild", [&] { consumer_->AbandonRebuild(); });
  }
  void OpenListing(uint64_t request) override {
    Guard("OpenListing", [&] { consumer_->OpenListing(request); });
  }
  void CloseListing(uint64_t request) override {
    Guard("CloseListing", [&] { consumer_->CloseListing(request); });
  }
  void ResumeEnded(ResumeEnd end, std::string_view why) override {
    Guard("ResumeEnded", [&] { consumer_->ResumeEnded(end, why); });
  }
  // What it guards.
  [[nodiscard]] Consumer& guarded() { return *consumer_; }
  [[nodiscard]] std::optional<MonoTime> NextDeadline() const override {
    return consumer_->NextDeadline();
  }
  void Tick(MonoTime now) override {
    Guard("Tick", [&] { consumer_->Tick(now); });
  }
  void TrustChanged(const Trust& trust) override {
    Guard("TrustChanged", [&] { consumer_->TrustChanged(trust); });
  }

 private:
  template <typename Call>
  bool Guard(std::string_view call, Call&& run) {
    try {
      run();
      return true;
    } catch (const std::exception& error) {
      Tell(call, error.what());
    } catch (...) {
      Tell(call, "an exception of unknown type");
    }
    return false;
  }

  void Tell(std::string_view call, std::string_view what) {
    if (std::exchange(told_, true)) return;
    log::Error("{}: {} failed: {}; its figures may be wrong until it is resynchronised", name_,
               call, what);
  }

  std::string name_;
  std::unique_ptr<Consumer> consumer_;
  bool told_ = false;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_GUARDED_CONSUMER_H_
