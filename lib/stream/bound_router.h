#ifndef CONDUCTOR_LIB_STREAM_BOUND_ROUTER_H_
#define CONDUCTOR_LIB_STREAM_BOUND_ROUTER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace conductor::stream {

// Whose the messages are that come to one bound endpoint, to which many publishers may connect:
// told by the address that they come from, their topic, and the rank in the batch. Pure.
//
// Of the registrations that fit a message, those count that name its peer, before those that take
// any; of these the ones with the longest topic ("kv@10.0.0.1" is a prefix of "kv@10.0.0.11" too);
// and only if several remain, the rank decides. So one registration alone takes what fits it
// whatever its rank.
//
// A connection that sends what belongs to a registration takes it over from an older one: the
// publisher was restarted. When the older one goes on sending, the two cannot be told apart, and
// nothing of either is passed on until all but one of them are gone.
//
// Not for more than some hundred registrations at one endpoint: each new connection or topic is
// compared with all of them.
class BoundRouter {
 public:
  using Seat = uint64_t;        // a registration
  using Connection = uint64_t;  // never the same number twice

  struct Name {
    std::string peer;   // empty: any
    std::string topic;  // prefix
    uint32_t rank = 0;
    std::function<std::optional<int64_t>(std::string_view payload)> batch_rank;  // may be null
  };
  struct Message {
    Connection connection = 0;
    std::string_view peer;
    std::string_view topic;
    std::string_view payload;
  };
  struct Route {
    std::optional<Seat> seat;  // nothing: not to be passed on
    bool fresh = false;        // the first from this connection since it, or another, took over
  };
  // A seat that became shared, with what to tell people; or is shared no more, with an empty text.
  using SharedChange = std::pair<Seat, std::string>;

  // `endpoint` is for texts.
  explicit BoundRouter(std::string endpoint) : endpoint_(std::move(endpoint)) {}

  void Add(Seat seat, Name name);
  void Remove(Seat seat);

  [[nodiscard]] Route Take(const Message& message);

  // The connection is gone; the seats that it held.
  std::vector<Seat> Gone(Connection connection);

  // What changed since the last call.
  std::vector<SharedChange> TakeSharedChanges();

  // Whether a connection holds the seat now.
  [[nodiscard]] bool Held(Seat seat) const;
  // Messages that fit no registration, or several.
  [[nodiscard]] uint64_t unrouted() const { return unrouted_; }
  // Of the first of them that fit none, for people; empty: there was none.
  [[nodiscard]] const std::string& first_stranger() const { return first_stranger_; }

 private:
  struct SeatState {
    Name name;
    std::optional<Connection> holder;
    std::set<Connection> former;  // that held it before and are still there
    // Why nothing can be passed on, for people: two that send in turn; messages of a connection
    // that fit others as well.
    std::string rivalry;
    std::map<Connection, std::string> ambiguous;
    bool told = false;
  };
  struct ConnectionState {
    std::optional<std::string> topic;  // of its last message
    std::vector<Seat> fitting;         // those that fit it best
  };
  using Key = std::tuple<std::string, std::string, uint32_t>;

  [[nodiscard]] std::vector<Seat> Fitting(std::string_view peer, std::string_view topic) const;
  [[nodiscard]] std::optional<Seat> Choose(ConnectionState& state, const Message& message);
  [[nodiscard]] static Key KeyOf(const Name& name);
  [[nodiscard]] bool IsShared(const SeatState& seat) const;
  [[nodiscard]] std::string WhyShared(const SeatState& seat) const;
  void NoteStranger(const Message& message);

  const std::string endpoint_;
  std::map<Seat, SeatState> seats_;
  std::map<Key, uint32_t> keys_;  // how many seats have it
  std::map<Connection, ConnectionState> connections_;
  bool shared_changed_ = false;  // for all that is known
  uint64_t unrouted_ = 0;
  std::string first_stranger_;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_BOUND_ROUTER_H_
