// The stand-in for libstp has nothing to join.
#include "tools/joining.h"

namespace stp {
void show_joining(std::string) {}
}  // namespace stp
