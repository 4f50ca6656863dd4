// The measuring host of the bench; bench_role.h says what it is told and answers.
#pragma once

#include "tools/bench_socket.h"

namespace stp::tools {

int run_bench_near();

}  // namespace stp::tools
