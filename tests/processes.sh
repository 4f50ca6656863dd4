# Sourced by tests that start programs which start others. What was started in the background is a child of a shell that is a
# child of this one, and has children.
descendants() {
  local child
  for child in $(pgrep -P "$1"); do
    echo "$child"
    descendants "$child"
  done
}
kill_descendants() {
  local child
  for child in $(descendants $$); do kill -KILL "$child" 2>/dev/null; done
}
# At the end of a script that worked in that folder.
end_and_remove() {
  kill_descendants
  wait
  cd / && rm -rf "$1"
} 2>/dev/null
