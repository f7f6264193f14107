/* A library that opens another by its plain name, which only its own RUNPATH finds. */
#include <dlfcn.h>
#include <stddef.h>

const char *inner_name(void) {
    void *inner = dlopen("libinner-of-test.so", RTLD_NOW | RTLD_LOCAL);
    const char *(*name)(void) =
        inner == NULL ? NULL : (const char *(*)(void))dlsym(inner, "plugin_name");
    return name == NULL ? dlerror() : name();
}
