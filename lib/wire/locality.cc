#include "lib/wire/locality.h"

#include <fmt/format.h>
#include <strings.h>

#include "lib/wire/skips.h"

namespace conductor::wire {

void ReadLocality(FieldReader& reader, MsgpackValue locality) {
  std::optional<std::string> text;
  reader.Name(locality, "locality", text);
  if (!text || strcasecmp(text->c_str(), "LOCAL") == 0) return;
  reader.PassOver(fmt::format("locality: is {} (expected nil or LOCAL)", Quoted(*text)));
}

}  // namespace conductor::wire
