// An NVML client in Go, as go-nvml reaches the library: cgo, dlopen by name, dlsym per function.
package main

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>

static void *library;
static int call0(const char *name) {
	int (*function)(void) = (int (*)(void))dlsym(library, name);
	return function ? function() : 13;
}
static int get_count(unsigned *count) {
	int (*function)(unsigned *) = (int (*)(unsigned *))dlsym(library, "nvmlDeviceGetCount_v2");
	return function ? function(count) : 13;
}
static int get_handle(unsigned index, void **device) {
	int (*function)(unsigned, void **) =
		(int (*)(unsigned, void **))dlsym(library, "nvmlDeviceGetHandleByIndex_v2");
	return function ? function(index, device) : 13;
}
static int get_temperature(void *device, unsigned *celsius) {
	int (*function)(void *, int, unsigned *) =
		(int (*)(void *, int, unsigned *))dlsym(library, "nvmlDeviceGetTemperature");
	return function ? function(device, 0, celsius) : 13;
}
static int open_library(const char *name) {
	library = dlopen(name, RTLD_LAZY | RTLD_GLOBAL);
	return library != NULL;
}
*/
import "C"

import (
	"bufio"
	"fmt"
	"os"
	"unsafe"
)

func readNode() {
	var count C.unsigned
	fmt.Printf(" %d", C.get_count(&count))
	fmt.Printf(" %d", count)
	for i := C.unsigned(0); i < count; i++ {
		var device unsafe.Pointer
		var celsius C.unsigned
		result := C.get_handle(i, &device)
		if result == 0 {
			result = C.get_temperature(device, &celsius)
		}
		if result == 0 {
			fmt.Printf(" %d", celsius)
		} else {
			fmt.Printf(" !%d", result)
		}
	}
}

func main() {
	if C.open_library(C.CString(os.Args[1])) == 0 {
		os.Exit(3)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		result := C.call0(C.CString("nvmlInit_v2"))
		fmt.Printf("%d", result)
		if result == 0 {
			readNode()
			C.call0(C.CString("nvmlShutdown"))
		}
		fmt.Println()
	}
}
