#include "daemon/toolkit/tap_live.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "daemon/toolkit/tap_facts.h"
#include "lib/base/bytes.h"
#include "lib/base/number.h"
#include "lib/wire/peek_rank.h"

namespace conductor::toolkit {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kQueued = 1000;             // messages that libzmq holds ahead
constexpr int kQueuedRecording = 10'000;  // bursts must not cost a recording anything
constexpr size_t kMessagesOfTurn = 256;
constexpr const char* kNoZeroMq =
    "something listens there that does not speak ZeroMQ as a publisher does. Is that the port of "
    "the engine's KV events, and not its replay endpoint or its HTTP port? Still trying";
constexpr size_t kMostWaitingBytes = 256 << 20;
constexpr const char* kOthers = "others";  // no address
constexpr Duration kUnreachableAfter = seconds(3);
constexpr Duration kSilentAfter = seconds(5);
constexpr Duration kReplayTimeout = seconds(5);
constexpr Duration kRedial = seconds(2);
// A subscription takes effect a moment after the connection; what is published in between is asked
// for again when the next message shows that it is missing.
constexpr Duration kSubscribed = milliseconds(100);

constexpr int kMonitored = ZMQ_EVENT_CONNECT_DELAYED | ZMQ_EVENT_CONNECTED |
                           ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_DISCONNECTED |
                           ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                           ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;

stream::Transport::Options SocketOptions() { return {}; }

// All frames of a message, however many; more than a recording keeps are dropped.
bool Receive(stream::ZmqSocket& socket, std::vector<stream::ZmqFrame>& frames, size_t& bytes) {
  frames.clear();
  bytes = 0;
  for (bool more = true; more;) {
    stream::ZmqFrame frame;
    if (zmq_msg_recv(frame.raw(), socket.raw(), ZMQ_DONTWAIT) < 0) return false;
    more = zmq_msg_more(frame.raw()) != 0;
    if (frames.size() > trace::kMostFrames) continue;
    bytes += frame.view().size() + sizeof frame;
    frames.push_back(std::move(frame));
  }
  return true;
}

std::vector<std::string_view> Views(const std::vector<stream::ZmqFrame>& frames) {
  std::vector<std::string_view> views;
  views.reserve(frames.size());
  for (const stream::ZmqFrame& frame : frames) views.push_back(frame.view());
  return views;
}

}  // namespace

TapLive::TapLive(const TapOptions& options, TapView& view, TapRecorder& recorder)
    : options_(options), view_(view), recorder_(recorder), context_(zmq_ctx_new()) {}

TapLive::~TapLive() {
  links_.clear();
  replay_.reset();
  waiting_.clear();
  zmq_ctx_term(context_);
}

Status TapLive::Open() {
  for (const std::string& source : options_.sources) {
    auto link = std::make_unique<Link>();
    link->endpoint = source;
    link->bound = options_.bind || source.starts_with("tcp://*:");
    link->begun = MonoNow();
    if (auto opened = OpenLink(*link); !opened) return opened;
    if (!link->bound) link->publisher = AddPublisher(source, nullptr);
    links_.push_back(std::move(link));
  }
  if (options_.from) ask_at_ = MonoNow() + kUnreachableAfter;
  return {};
}

Status TapLive::OpenLink(Link& link) {
  auto socket = stream::MonitoredSocket::Create(context_, ZMQ_SUB, kMonitored,
                                                fmt::format("tap-{}", links_.size()));
  if (!socket) return tl::unexpected(std::move(socket).error().Within(link.endpoint));
  stream::ConfigureSocket(socket->socket(), link.endpoint, SocketOptions());
  if (link.endpoint.starts_with("tcp://*:")) socket->socket().Set(ZMQ_IPV6, 1);
  socket->socket().Set(ZMQ_RCVHWM, recorder_.recording() ? kQueuedRecording : kQueued);
  socket->socket().Set(ZMQ_SUBSCRIBE, options_.topic);
  if (!link.bound) {
    if (auto connecting = socket->socket().Connect(link.endpoint); !connecting) return connecting;
  } else if (zmq_bind(socket->socket().raw(), link.endpoint.c_str()) != 0) {
    return Fail(fmt::format("cannot listen: {}", zmq_strerror(zmq_errno())),
                fmt::format("endpoint '{}'", link.endpoint),
                "an address of this machine that nobody listens at: tcp://*:PORT");
  }
  link.socket = std::move(*socket);
  return {};
}

uint32_t TapLive::AddPublisher(const std::string& endpoint, const Peer* peer) {
  auto facts = ReadFacts(options_.facts, options_.type).value_or(nlohmann::ordered_json::object());
  if (peer != nullptr) {
    const auto& [address, topic, rank] = *peer;
    facts["mode"] = "bind";
    if (!address.empty()) facts["peer"] = address;
    if (!topic.empty()) facts["peer_topic"] = topic;
    if (rank) facts["dp_rank"] = *rank;
  }
  const trace::RecordedPublisher publisher = {
      .endpoint = endpoint,
      .replay_endpoint = options_.replay_endpoint,
      .topic = options_.topic,
      .facts = facts.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)};
  recorder_.Add(publisher);
  return view_.Add(publisher);
}

uint32_t TapLive::PublisherOf(Link& link, const std::vector<stream::ZmqFrame>& frames) {
  if (link.publisher) return *link.publisher;
  Peer peer;
  std::get<0>(peer) = frames.front().peer_address();
  if (frames.size() == 3) {
    std::get<1>(peer) = frames[0].view().substr(0, 256);
    std::get<2>(peer) = wire::PeekRank(frames[2].view());
  }
  if (const auto known = link.peers.find(peer); known != link.peers.end()) return known->second;
  // A peer that makes up topics must not exhaust anything.
  const size_t room = trace::kMostPublishers - std::min(trace::kMostPublishers, 2 * links_.size());
  if (peers_ >= std::min(kMostPeers, room)) return OthersOf(link);
  ++peers_;
  return link.peers.emplace(peer, AddPublisher(link.endpoint, &peer)).first->second;
}

uint32_t TapLive::OthersOf(Link& link) {
  if (!link.others) {
    TapNote(
        fmt::format("{}: {} publishers are told apart; all others that connect there are one, "
                    "\"{}\", whose gaps and restarts mean nothing",
                    link.endpoint, peers_, kOthers));
    const Peer others = {kOthers, "", std::nullopt};
    link.others = AddPublisher(link.endpoint, &others);
  }
  return *link.others;
}

void TapLive::Mark(const Link& link, trace::MarkKind kind, std::string detail) {
  trace::RecordedMark mark{.time_ns = UnixNanos(), .kind = kind, .detail = std::move(detail)};
  if (link.publisher) mark.publisher = *link.publisher;
  recorder_.Mark(mark);
  view_.Mark(mark);
}

void TapLive::TakeEvents(Link& link, MonoTime now) {
  std::vector<stream::SocketEvent> events;
  link.socket.TakeEvents(events);
  for (const stream::SocketEvent& event : events) {
    if (event.event == ZMQ_EVENT_CONNECT_DELAYED) {
      link.tried = true;
    } else if (event.event == ZMQ_EVENT_CONNECTED) {
      link.accepted = true;
    } else if (event.event == ZMQ_EVENT_CONNECT_RETRIED) {
      link.retried = true;
    } else if (event.event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
      if (++link.connections == 1) link.connected_at = now;
      if (options_.from && ask_at_ && link.connections == 1) ask_at_ = now + kSubscribed;
      Mark(link, trace::MarkKind::kConnected, link.bound ? "a publisher" : "");
    } else if (event.event == ZMQ_EVENT_DISCONNECTED) {
      // Who closes before the greeting is over was no publisher yet.
      if (link.connections > 0) Mark(link, trace::MarkKind::kDisconnected);
    } else if (!link.bound) {
      if (!std::exchange(link.told_unreachable, true)) {
        TapNote(link.endpoint + ": " + kNoZeroMq);
      }
      link.redial_at = now + kRedial;  // libzmq gives such a peer up
    }
  }
  if (link.redial_at && now >= *link.redial_at) {
    link.redial_at.reset();
    zmq_disconnect(link.socket.socket().raw(), link.endpoint.c_str());
    (void)link.socket.socket().Connect(link.endpoint);
  }
}

// As far as libzmq tells: a connection that is refused, and one that nobody answers, are tried
// again; one whose peer sends no greeting stays open for a while.
std::string TapLive::WhyUnreachable(const Link& link, const std::string& after) {
  if (link.accepted) return kNoZeroMq;
  std::string why = "nobody answers there within " + after;
  if (link.retried && link.tried) why = "nothing listens there: the connection is refused";
  if (link.retried && !link.tried) {
    why = link.endpoint.starts_with("ipc://") ? "nothing listens there"
                                              : "there is no such host, or no way to it";
  }
  return why +
         ". Does the engine run there, with its KV events on (vLLM: --kv-events-config with "
         "\"enable_kv_cache_events\": true, \"publisher\": \"zmq\") and that port? If its "
         "endpoint has no '*', it connects: use --bind here. Still trying";
}

void TapLive::TellWhatIsMissing(Link& link, MonoTime now) {
  if (link.connections == 0 && !link.told_unreachable && now >= link.begun + kUnreachableAfter) {
    link.told_unreachable = true;
    const std::string after = FormatDuration(kUnreachableAfter);
    TapNote(link.bound
                ? fmt::format("{}: no publisher has connected within {}. Is this the endpoint that "
                              "the engine was given (an engine connects to one without a '*')? "
                              "Still waiting",
                              link.endpoint, after)
                : fmt::format("{}: {}", link.endpoint, WhyUnreachable(link, after)));
  }
  if (link.connected_at && link.messages == 0 && !link.told_silent &&
      now >= *link.connected_at + kSilentAfter) {
    link.told_silent = true;
    TapNote(fmt::format(
        "{}: connected, but nothing came yet: {}", link.endpoint,
        options_.topic.empty()
            ? "an engine without requests is silent"
            : fmt::format("does the engine use a topic that begins with '{}' (without --topic all "
                          "are subscribed to), and has it requests?",
                          options_.topic)));
  }
}

bool TapLive::TakeMessages(Link& link) {
  for (size_t i = 0; i < kMessagesOfTurn; ++i) {
    // What waits for a replay is bounded; the rest stays in the socket, then with the publisher.
    if (waiting_bytes_ > kMostWaitingBytes) return false;
    Message message;
    if (!Receive(link.socket.socket(), message.frames, message.bytes)) return false;
    message.time_ns = UnixNanos();
    ++link.messages;
    const uint32_t publisher = PublisherOf(link, message.frames);
    Live(publisher, std::move(message));
    if (view_.done() || recorder_.problem()) return false;
  }
  return true;
}

void TapLive::Give(int64_t time_ns, uint32_t publisher, bool replayed,
                   std::span<const std::string_view> frames) {
  recorder_.Message(time_ns, publisher, replayed, frames);
  view_.Message(time_ns, publisher, replayed, frames);
}

void TapLive::Live(uint32_t publisher, Message message) {
  if (!ask_at_ && !replay_ && waiting_.empty() && Deliver(publisher, message)) return;
  waiting_bytes_ += message.bytes;
  waiting_.push_back(std::move(message));
}

bool TapLive::Deliver(uint32_t publisher, const Message& message) {
  const auto views = Views(message.frames);
  if (options_.from) {
    if (const auto read = ReadMessage(views, false)) {
      if (view_.Knows(publisher, read->sequence, read->payload)) return true;
      const auto last = view_.last(publisher);
      const uint64_t next = last ? *last + 1 : *options_.from;
      if (replays_ && !ending_ && read->sequence > next && asked_for_hole_ != next) {
        asked_for_hole_ = next;
        Ask(next, MonoNow());
        return false;
      }
    }
  }
  Give(message.time_ns, publisher, false, views);
  return true;
}

void TapLive::Ask(uint64_t from, MonoTime now) {
  replay_ = std::make_unique<Replay>();
  replay_->from = from;
  replay_->progress = now;
  auto socket = stream::ZmqSocket::Create(context_, ZMQ_DEALER);
  if (!socket) {
    TapNote(socket.error().Message());
    return;
  }
  stream::ConfigureSocket(*socket, options_.replay_endpoint, SocketOptions());
  socket->Set(ZMQ_RCVHWM, 0);  // a ROUTER drops what does not fit
  const auto number = StoreBigEndian64(from);
  const std::array<std::string_view, 2> frames = {std::string_view(),
                                                  std::string_view(number.data(), number.size())};
  if (auto connected = socket->Connect(options_.replay_endpoint); !connected) {
    TapNote(connected.error().Message());
    return;
  }
  (void)socket->Send(frames);
  replay_->socket = std::move(*socket);
}

bool TapLive::TakeReplay(MonoTime now) {
  if (!replay_) return false;
  const uint32_t publisher = *links_.front()->publisher;
  std::vector<stream::ZmqFrame> frames;
  size_t bytes = 0;
  for (size_t i = 0; i < kMessagesOfTurn && replay_->socket; ++i) {
    if (!Receive(replay_->socket, frames, bytes)) break;
    replay_->progress = now;
    ++replay_->answered;
    const auto views = Views(frames);
    const auto message = ReadMessage(views, true);
    if (message && message->replay_end) {
      Mark(*links_.front(), trace::MarkKind::kReplayEnd,
           fmt::format("from sequence {}: {}", replay_->from,
                       Counted(replay_->answered - 1, "message")));
      EndReplay();
      return true;
    }
    if (message && view_.Knows(publisher, message->sequence, message->payload)) continue;
    Give(UnixNanos(), publisher, true, views);
    if (view_.done()) return false;
    if (i + 1 == kMessagesOfTurn) return true;
  }
  if (now >= replay_->progress + kReplayTimeout) {
    TapNote(fmt::format(
        "{}: {} within {}. Is it the engine's replay endpoint (vLLM: "
        "\"replay_endpoint\" in --kv-events-config)? Going on with what comes live, and asking "
        "no more",
        options_.replay_endpoint, replay_->answered == 0 ? "no answer" : "no end of the answer",
        FormatDuration(kReplayTimeout)));
    replays_ = false;
    EndReplay();
  }
  return false;
}

// What came live meanwhile, in order; another hole in it is asked for again.
void TapLive::EndReplay() {
  replay_.reset();
  const uint32_t publisher = *links_.front()->publisher;
  while (!waiting_.empty() && !view_.done()) {
    if (!Deliver(publisher, waiting_.front())) return;
    waiting_bytes_ -= waiting_.front().bytes;
    waiting_.pop_front();
  }
}

void TapLive::Poll(std::vector<zmq_pollitem_t>& items) const {
  for (const auto& link : links_) {
    items.push_back({link->socket.monitor(), 0, ZMQ_POLLIN, 0});
    if (waiting_bytes_ > kMostWaitingBytes) continue;
    items.push_back({link->socket.socket().raw(), 0, ZMQ_POLLIN, 0});
  }
  if (replay_ && replay_->socket) items.push_back({replay_->socket.raw(), 0, ZMQ_POLLIN, 0});
}

bool TapLive::Turn(MonoTime now) {
  if (ask_at_ && now >= *ask_at_) {
    ask_at_.reset();
    Ask(*options_.from, now);
  }
  bool more = TakeReplay(now);
  for (const auto& link : links_) {
    TakeEvents(*link, now);
    more |= TakeMessages(*link);
    if (view_.done()) return false;
    TellWhatIsMissing(*link, now);
  }
  return more;
}

void TapLive::Drain(Duration quiet, Duration most) {
  ending_ = true;
  ask_at_.reset();
  const MonoTime end = MonoNow() + most;
  const auto over = [&] { return view_.done() || recorder_.problem() || MonoNow() >= end; };
  while (!over() && TakeReplay(MonoNow())) {
  }
  if (options_.from) EndReplay();
  const auto wait = std::chrono::ceil<milliseconds>(quiet).count();
  std::vector<zmq_pollitem_t> items;
  while (!over()) {
    bool more = false;
    for (const auto& link : links_) {
      TakeEvents(*link, MonoNow());
      more |= TakeMessages(*link);
    }
    if (more) continue;
    items.clear();
    for (const auto& link : links_) {
      items.push_back({link->socket.socket().raw(), 0, ZMQ_POLLIN, 0});
    }
    if (zmq_poll(items.data(), static_cast<int>(items.size()), wait) <= 0) return;
  }
}

std::optional<MonoTime> TapLive::Deadline() const {
  std::optional<MonoTime> first = ask_at_;
  const auto at = [&first](MonoTime time) { first = first ? std::min(*first, time) : time; };
  if (replay_) at(replay_->progress + kReplayTimeout);
  for (const auto& link : links_) {
    if (link->redial_at) at(*link->redial_at);
    if (link->connections == 0 && !link->told_unreachable) at(link->begun + kUnreachableAfter);
    if (link->connected_at && link->messages == 0 && !link->told_silent) {
      at(*link->connected_at + kSilentAfter);
    }
  }
  return first;
}

bool TapLive::reached() const {
  return std::ranges::any_of(links_, [](const auto& link) { return link->connections > 0; });
}

}  // namespace conductor::toolkit
