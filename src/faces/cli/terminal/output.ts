import { styleText } from 'node:util';
import Table from 'cli-table3';

export type Colour = 'green' | 'yellow' | 'red' | 'dim' | 'bold';

/** Escapes control characters in text from a token or a file, so that the terminal does not obey them. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/gu, (each) => {
    return `\\u${each.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/** Escapes control characters, but keeps the colours that the tool has set. */
function printableCell(cell: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  const parts = cell.split(/(\u001b\[\d+m)/u);
  return parts.map((part, index) => (index % 2 === 1 ? part : printable(part))).join('');
}

const noLines = Object.fromEntries(
  ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right', 'left'].map(
    (place) => [place, ''],
  ),
);

/** Output of a command: tables and text for people, or one JSON value for programs. */
export class Output {
  constructor(
    readonly isJson: boolean,
    private readonly stream: NodeJS.WriteStream = process.stdout,
  ) {}

  get isTerminal(): boolean {
    return this.stream.isTTY === true;
  }

  /** Colours text on a terminal, unless NO_COLOR is set. */
  paint(colour: Colour, text: string): string {
    const wanted = this.isTerminal && process.env.NO_COLOR === undefined && process.env.TERM !== 'dumb';
    return wanted ? styleText(colour, text) : text;
  }

  /** Writes a value as JSON for programs, or calls `show` to write text for people. */
  give(value: unknown, show: () => void): void {
    if (this.isJson) this.json(value);
    else show();
  }

  /** Writes a warning to the error stream. */
  warn(text: string): void {
    process.stderr.write(`pkcs11-ha: ${printable(text)}\n`);
  }

  /** Writes a warning, and lines as they are, for copying. */
  warnWith(text: string, lines: readonly string[]): void {
    this.warn(text);
    process.stderr.write(`${lines.join('\n')}\n`);
  }

  json(value: unknown): void {
    this.stream.write(`${JSON.stringify(value, null, 2)}\n`);
  }

  line(text = ''): void {
    this.stream.write(`${text}\n`);
  }

  /** Writes a table with heads; escapes control characters except colours. */
  table(heads: readonly string[], rows: readonly (readonly string[])[]): void {
    const table = new Table({
      head: heads.map((head) => this.paint('bold', head.toUpperCase())),
      chars: { ...noLines, right: '', middle: '', mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
      style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
    });
    for (const row of rows) table.push(row.map(printableCell));
    for (const text of table.toString().split('\n')) this.line(text.trimEnd());
  }
}
