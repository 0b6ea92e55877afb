#include "scheduler/step_loop.h"
