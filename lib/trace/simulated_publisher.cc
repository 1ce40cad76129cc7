#include "lib/trace/simulated_publisher.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <deque>
#include <iterator>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>
#include <zmq.hpp>
#include <zmq_addon.hpp>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/wire/vllm_encoder.h"

namespace conductor::trace {
namespace {

// vLLM's default for how many batches wait for a slow subscriber.
constexpr int kLiveHighWaterMark = 100000;
// The sequence of the end marker, -1 as a signed integer.
constexpr uint64_t kEndSequence = ~uint64_t{0};

// One published batch, shared with the replays that are being sent.
struct Batch {
  std::string topic;
  uint64_t sequence;
  std::shared_ptr<const std::string> payload;
};

zmq::const_buffer Bytes(std::string_view bytes) { return zmq::buffer(bytes.data(), bytes.size()); }

// Binds, and gives the address with wildcards resolved.
Result<std::string> Bind(zmq::socket_t& socket, const std::string& endpoint, Duration linger) {
  try {
    const auto most = std::chrono::ceil<std::chrono::milliseconds>(linger);
    socket.set(zmq::sockopt::linger, static_cast<int>(most.count()));
    socket.bind(endpoint);
    return socket.get(zmq::sockopt::last_endpoint);
  } catch (const zmq::error_t& error) {
    return Fail(std::string("cannot bind: ") + error.what(), endpoint,
                "a free ZeroMQ address of this machine");
  }
}

}  // namespace

struct SimulatedPublisher::Impl {
  explicit Impl(const Options& given)
      : options(given),
        live(context, options.see_subscribers ? zmq::socket_type::xpub : zmq::socket_type::pub),
        replay(context, zmq::socket_type::router) {
    live.set(zmq::sockopt::sndhwm, kLiveHighWaterMark);
    // A replay is bounded by the ring; none of it may be dropped.
    replay.set(zmq::sockopt::sndhwm, 0);
  }

  ~Impl() {
    context.shutdown();  // ends ServeReplays
    if (replay_thread.joinable()) replay_thread.join();
  }

  // What subscribers said since the last time.
  void ReadSubscriptions();
  // Answers requests until the context is shut down.
  void ServeReplays();
  void Answer(const zmq::message_t& identity, uint64_t start);

  const Options options;
  std::string endpoint;
  std::string replay_endpoint;

  zmq::context_t context;
  zmq::socket_t live;    // Publish()'s thread
  zmq::socket_t replay;  // replay_thread
  std::thread replay_thread;

  uint64_t next_sequence = 0;  // this and the next: Publish()'s thread
  bool subscribed = false;

  std::mutex mutex;
  std::deque<Batch> ring;  // guarded by mutex; oldest first
};

void SimulatedPublisher::Impl::ReadSubscriptions() {
  if (!options.see_subscribers) return;
  zmq::message_t message;
  while (live.recv(message, zmq::recv_flags::dontwait)) {
    // One byte that says whether it is one, and its topic.
    if (message.size() > 0 && *message.data<char>() == 1) subscribed = true;
  }
}

void SimulatedPublisher::Impl::ServeReplays() {
  while (true) {
    try {
      std::vector<zmq::message_t> request;
      (void)zmq::recv_multipart(replay, std::back_inserter(request));
      // [identity] [""] [first sequence wanted]; anything else gets no answer.
      if (request.size() != 3 || !request[1].empty() || request[2].size() != 8) continue;
      Answer(request[0], LoadBigEndian64(request[2].to_string_view()));
    } catch (const zmq::error_t& error) {
      if (error.num() != EINTR) return;  // the context was shut down
    }
  }
}

void SimulatedPublisher::Impl::Answer(const zmq::message_t& identity, uint64_t start) {
  std::vector<Batch> batches;
  {
    const std::lock_guard lock(mutex);
    for (const Batch& batch : ring) {
      if (batch.sequence >= start) batches.push_back(batch);
    }
  }
  const auto send = [&](std::string_view topic, uint64_t sequence, std::string_view payload) {
    const auto number = StoreBigEndian64(sequence);
    zmq::send_multipart(replay, std::array<zmq::const_buffer, 5>{
                                    Bytes(identity.to_string_view()), Bytes(""), Bytes(topic),
                                    zmq::buffer(number), Bytes(payload)});
  };
  for (const Batch& batch : batches) send(batch.topic, batch.sequence, *batch.payload);
  send("", kEndSequence, "");
}

SimulatedPublisher::SimulatedPublisher(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

SimulatedPublisher::~SimulatedPublisher() = default;

Result<std::unique_ptr<SimulatedPublisher>> SimulatedPublisher::Create(const Options& options) {
  std::unique_ptr<Impl> impl;
  try {
    impl = std::make_unique<Impl>(options);
  } catch (const zmq::error_t& error) {
    return Fail(std::string("cannot make a ZeroMQ socket: ") + error.what(), options.endpoint);
  }
  auto endpoint = Bind(impl->live, options.endpoint, options.linger);
  if (!endpoint) return tl::unexpected(std::move(endpoint.error()));
  impl->endpoint = std::move(*endpoint);
  if (!options.replay_endpoint.empty()) {
    auto replay_endpoint = Bind(impl->replay, options.replay_endpoint, options.linger);
    if (!replay_endpoint) return tl::unexpected(std::move(replay_endpoint.error()));
    impl->replay_endpoint = std::move(*replay_endpoint);
    impl->replay_thread = std::thread([publisher = impl.get()] { publisher->ServeReplays(); });
  }
  return std::unique_ptr<SimulatedPublisher>(new SimulatedPublisher(std::move(impl)));
}

const std::string& SimulatedPublisher::endpoint() const { return impl_->endpoint; }

const std::string& SimulatedPublisher::replay_endpoint() const { return impl_->replay_endpoint; }

void SimulatedPublisher::Publish(std::vector<wire::KvEvent> events) {
  wire::EventBatch batch;
  batch.timestamp = UnixNow();
  batch.dp_rank = impl_->options.dp_rank;
  batch.events = std::move(events);
  Send(impl_->options.topic, impl_->next_sequence, wire::EncodeVllmBatch(batch));
}

void SimulatedPublisher::Send(std::string_view topic, uint64_t sequence, std::string payload) {
  const auto shared = std::make_shared<const std::string>(std::move(payload));
  impl_->next_sequence = sequence + 1;
  {
    // In the ring before it is on the wire: who saw it live can ask for it.
    const std::lock_guard lock(impl_->mutex);
    std::deque<Batch>& ring = impl_->ring;
    if (ring.empty() || sequence > ring.back().sequence) {
      ring.push_back({std::string(topic), sequence, shared});
      if (ring.size() > impl_->options.ring_batches) ring.pop_front();
    }
  }
  const auto number = StoreBigEndian64(sequence);
  try {
    impl_->ReadSubscriptions();
    zmq::send_multipart(impl_->live, std::array<zmq::const_buffer, 3>{
                                         Bytes(topic), zmq::buffer(number), Bytes(*shared)});
  } catch (const zmq::error_t&) {
    // A hole in the live stream, as when an engine fails to send; the ring has the batch.
  }
}

void SimulatedPublisher::NewLife() {
  const std::lock_guard lock(impl_->mutex);
  impl_->ring.clear();
  impl_->next_sequence = 0;
}

bool SimulatedPublisher::WaitForSubscriber(Duration most) {
  const auto wait = std::chrono::ceil<std::chrono::milliseconds>(most);
  try {
    zmq::pollitem_t item{impl_->live.handle(), 0, ZMQ_POLLIN, 0};
    if (!impl_->subscribed) zmq::poll(&item, 1, wait);
    impl_->ReadSubscriptions();
  } catch (const zmq::error_t&) {
    // Interrupted by a signal: as if the time were over.
  }
  return impl_->subscribed;
}

}  // namespace conductor::trace
