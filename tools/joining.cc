#include "tools/joining.h"

#include <fmt/format.h>

#include <cstdio>
#include <string_view>

#include "hostlib/host_options.h"

namespace stp {

void show_joining(std::string program) {
  host::set_join_progress([name = std::move(program)](std::string_view text) {
    if (!text.empty()) fmt::print(stderr, "{}: {}\n", name, text);
  });
}

}  // namespace stp
