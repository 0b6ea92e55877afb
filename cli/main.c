#include <stdio.h>

int main(void) {
    puts("optima " OPTIMA_VERSION);
    return 0;
}
