export const hostileModule: string;
export function buildHostile(): void;
