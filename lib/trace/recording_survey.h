#ifndef CONDUCTOR_LIB_TRACE_RECORDING_SURVEY_H_
#define CONDUCTOR_LIB_TRACE_RECORDING_SURVEY_H_

#include <cstdint>
#include <functional>
#include <string>

#include "lib/base/result.h"
#include "lib/trace/recording_reader.h"

namespace conductor::trace {

// What a writer has to know of a recording that it goes on with.
struct RecordingSurvey {
  bool has_blocks = false;   // a whole one
  uint64_t whole_bytes = 0;  // up to the end of the last whole block; what follows is torn
  std::string torn;          // what is wrong with that, and where; empty when there is none
  // Records that a reader takes from the torn end, as AppendFrame() and its like make them.
  std::string records;
  uint32_t record_count = 0;
};

// Reads all of a recording from its beginning, and decompresses only what is damaged. An error when
// its header is none, when it could not be read to its end (which says nothing of what is there),
// and when `stopped` said so, which is asked between blocks and may be empty.
[[nodiscard]] Result<RecordingSurvey> SurveyRecording(ReadBytes read, const std::string& path,
                                                      const std::function<bool()>& stopped);

}  // namespace conductor::trace

#endif  // CONDUCTOR_LIB_TRACE_RECORDING_SURVEY_H_
