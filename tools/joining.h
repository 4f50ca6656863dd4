// Says on standard error what a long join of the storage system waits for.
#pragma once

#include <string>

namespace stp {

// `program` begins each line. Before the first STP call.
void show_joining(std::string program);

}  // namespace stp
