export const faultyModule: string;
export function buildFaulty(): void;
