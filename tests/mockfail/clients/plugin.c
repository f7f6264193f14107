/* A plugin with names that other plugins have too: each must get its own. */
const char *plugin_name(void) { return NAME; }
const char *ask_by_own_name(void) { return plugin_name(); }
int nvmlPluginPrivate(void) { return NAME[0]; }
