# Makes a Markdown table of what divan prints: medians of time, and how often memory was asked for.
BEGIN {
  print "| judging alone | time | allocations |"
  print "| --- | --- | --- |"
}
{
  line = $0
  is_case = line ~ /^(├|╰)─/
  gsub(/├─|╰─|│/, "|", line)
  sub(/^[| ]+/, "", line)
  columns = split(line, column, "|")
  gsub(/^ +| +$/, "", column[3])
}
is_case {
  split(line, word, " ")
  name = word[1]
  gsub(/_/, " ", name)
  time = column[3]
}
counts {
  printf "| %s | %s | %s |\n", name, time, column[3]
  counts = 0
}
line ~ /^alloc:/ { counts = 1 }
