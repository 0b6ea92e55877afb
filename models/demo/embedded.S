// The demo model's files and the table that embedded.c hands out, so that names and files are listed once.
// A row of the table is a struct embedded_file: name, bytes, count, each of 8 bytes.

.macro embed path
  .section .rodata.demo, "a", %progbits
  .balign 64
1:
  .incbin "models/demo/\path"
2:
  .section .rodata.demo_names, "a", %progbits
3:
  .asciz "\path"
  .section .data.rel.ro.demo_table, "aw", %progbits
  .8byte 3b, 1b, 2b - 1b
.endm

  .section .data.rel.ro.demo_table, "aw", %progbits
  .balign 8
  .global demo_table
  .hidden demo_table
demo_table:
  embed "config.json"
  embed "generation_config.json"
  embed "tokenizer.json"
  embed "tokenizer_config.json"
  embed "chat_template.jinja"
  embed "model.safetensors"
  embed "heldout.txt"
  embed "draft/config.json"
  embed "draft/model.safetensors"
  .global demo_table_end
  .hidden demo_table_end
demo_table_end:

  .section .note.GNU-stack, "", %progbits
