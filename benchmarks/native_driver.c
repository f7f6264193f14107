/* A driver whose calls cost nothing, so that what a mock adds to them is all there is to see. */
static char device;

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = 1;
    return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = &device;
    return index == 0 ? 0 : 2;
}

int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *celsius) {
    *celsius = (unsigned)sensor;
    return handle == &device ? 0 : 2;
}

int nvmlDeviceGetBoardId(void *handle, unsigned *id) {
    *id = 1;
    return handle == &device ? 0 : 2;
}
