// What a daemon tells the service manager that started it (sd_notify(3)): nothing, where there is none.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace stp {

class ServiceManager {
 public:
  ServiceManager();
  void ready() const { tell("READY=1"); }
  void stopping() const { tell("STOPPING=1"); }
  void reloading() const;
  // To be called at least as often as watchdog_ms() says.
  void alive() const {
    if (watchdog_us_ != 0) tell("WATCHDOG=1");
  }
  // Half of what the manager waits for, at most `otherwise`.
  int watchdog_ms(int otherwise) const;

 private:
  void tell(std::string_view state) const;
  std::string path_;
  std::uint64_t watchdog_us_ = 0;
};

}  // namespace stp
