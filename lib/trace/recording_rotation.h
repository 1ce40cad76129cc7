#ifndef CONDUCTOR_LIB_TRACE_RECORDING_ROTATION_H_
#define CONDUCTOR_LIB_TRACE_RECORDING_ROTATION_H_

#include <string>

#include "lib/base/result.h"

namespace conductor::trace {

// The names that a rotation of FILE uses, in its folder: FILE.0001 and so on for what was recorded,
// and one that is hidden for the file that takes its place. What has one of these names already is
// never overwritten, and never removed unless it is a recorder's own.

// Gives FILE the next free part's name and returns it. FILE keeps its own beside it, so that at no
// moment there is none; but on a file system without hard links it loses it. Where a recorder ended
// amid a rotation FILE has its part's name already: that one is returned.
[[nodiscard]] Result<std::string> NameAsPart(const std::string& path);

// A name that is free for what becomes FILE: ".FILE.rotating". What a recorder that ended there
// left under it is removed.
[[nodiscard]] Result<std::string> FreeNameBeside(const std::string& path);

}  // namespace conductor::trace

#endif  // CONDUCTOR_LIB_TRACE_RECORDING_ROTATION_H_
