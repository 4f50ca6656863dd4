// STPerror, STPstrerror.
#include "hostlib/last_error.h"
#include "hostlib/stp.h"

int STPerror(int s) { return static_cast<int>(stp::host::last_error(s).reason); }

const char* STPstrerror(int s) { return stp::host::last_error_words(s); }

static_assert(STP_ENOTYET == static_cast<int>(stp::Reason::kNotYet) && STP_EFORKED == static_cast<int>(stp::Reason::kForked) &&
              STP_ENOLISTENER == static_cast<int>(stp::Reason::kNoListener) && STP_ENOTGIVEN == static_cast<int>(stp::Reason::kNotGiven));
