# The environment of every camtrack process; source it from bash:  . config/environment.sh
# The launch files set the same values, for nodes that are started without it.

config_folder="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

# Camera images need more shared memory than the default. Jazzy reads the first name, Kilted and later the second.
export FASTRTPS_DEFAULT_PROFILES_FILE="${FASTRTPS_DEFAULT_PROFILES_FILE:-$config_folder/fastdds.xml}"
export FASTDDS_DEFAULT_PROFILES_FILE="${FASTDDS_DEFAULT_PROFILES_FILE:-$config_folder/fastdds.xml}"
unset config_folder

# Images come and go at the camera's rate: keep their memory, rather than map and fault it in anew for each of them.
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-33554432}"  # 32 MiB
export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-536870912}" # 512 MiB
export MALLOC_TOP_PAD_="${MALLOC_TOP_PAD_:-67108864}"                # 64 MiB

# ROS packages that pip installed lie in the virtual environment; ament finds them only if told.
if [ -n "${VIRTUAL_ENV:-}" ] && [[ ":${AMENT_PREFIX_PATH:-}:" != *":$VIRTUAL_ENV:"* ]]; then
  export AMENT_PREFIX_PATH="$VIRTUAL_ENV${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}"
fi
