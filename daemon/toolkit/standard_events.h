#ifndef CONDUCTOR_DAEMON_TOOLKIT_STANDARD_EVENTS_H_
#define CONDUCTOR_DAEMON_TOOLKIT_STANDARD_EVENTS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/toolkit/snapshot_content.h"
#include "lib/wire/msgpack_writer.h"

namespace conductor::toolkit {

// One event of RFC 1527 that says again what a holder holds: no tokens, as none are known, but the
// standard's own prefix hashes, which stand for the blocks themselves.
struct StandardEvent {
  bool removed = false;
  Tier tier = Tier::kGpu;
  std::vector<PrefixHash> hashes;
  std::optional<PrefixHash> parent;  // nothing: the first block begins a prompt
  uint32_t base_block = 0;           // position of the first block in its chain
};

// Tells a stream of events after which a publisher that held nothing holds what the holder at that
// position in `content` does: parents before children, copies as often as they are there. Where
// nothing is held between two held blocks of a chain, what is between them is stored too, so that
// the rest finds its parent, and removed at the end. A block that stands for several comes as all
// of them, each by itself. False from `take` ends it.
void VisitStandardEvents(const SnapshotContent& content, size_t holder,
                         const std::function<bool(const StandardEvent&)>& take);

// The event as a map of MessagePack, in the words of docs/wire-formats.md. `backend`: who holds it;
// empty: whose stream it is.
void WriteStandardEvent(const StandardEvent& event, const index::NamespaceKey& name_space,
                        uint32_t dp_rank, std::string_view backend, wire::MsgpackWriter& out);
// The same as one line of JSON, with its line break.
[[nodiscard]] std::string StandardEventJson(const StandardEvent& event,
                                            const index::NamespaceKey& name_space, uint32_t dp_rank,
                                            std::string_view backend);

// "GPU", "CPU", "DISK": as it stands in `medium`.
[[nodiscard]] std::string_view MediumOf(Tier tier);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_STANDARD_EVENTS_H_
