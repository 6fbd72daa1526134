/* Products of matrices with states of neurons, the messages of a look. Stands behind product.c.
 *
 * Sizes are of each item: the number of lines that are told, the number of lines that tell, and the
 * strides between them in its matrices, of which there are `kinds`, one after the other. Pointers are
 * where the matrices begin, the states, and what is said to a line by one matrix after the other.
 */
void run(word items, word kinds, word width, word *sizes, float **where) {
  panels memory = panels_for(most(BLOCK, width));
  real *said = malloc((size_t)(BLOCK * width) * sizeof(real));
  if (!said) abort();
  for (; items > 0; items--, sizes += 4, where += 3) {
    const word told = sizes[0], tell = sizes[1], by = sizes[2], along = sizes[3];
    const matrix states = of(where[1], width, 1);
    for (word from = 0; from < told; from += BLOCK) {
      const word here = least(told - from, BLOCK);
      for (word kind = 0; kind < kinds; kind++) {
        const real *entries = where[0] + kind * told * tell + from * by;
        product(memory, here, width, tell, of(entries, by, along), states, 1, 0, said, said, 0);
        for (word i = 0; i < here; i++)
          memcpy(where[2] + ((from + i) * kinds + kind) * width, said + i * width,
                 (size_t)width * sizeof(real));
      }
    }
  }
  free(memory.high);
  free(memory.wide);
  free(said);
}
