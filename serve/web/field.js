// A field that knows what is saved and what is typed: a newer saved value never takes away what somebody types.

export class Field {
  constructor(input, { write = (value) => value, read = (text) => text.trim() } = {}) {
    this.input = input;
    this.write = write;
    this.read = read;
    this.saved = "";
  }

  get value() {
    return this.read(this.input.value);
  }

  get isTyped() {
    return this.write(this.value) !== this.saved;
  }

  show(value) {
    const isTyped = this.isTyped;
    this.saved = this.write(value);
    if (!isTyped) this.revert();
  }

  // What was sent is saved now; what was typed since stays.
  took(value) {
    this.saved = this.write(value);
  }

  revert() {
    if (this.input.value !== this.saved) this.input.value = this.saved;
  }

  mark(isWrong) {
    if (isWrong) this.input.setAttribute("aria-invalid", "true");
    else this.input.removeAttribute("aria-invalid");
  }
}
