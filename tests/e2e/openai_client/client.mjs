// What all tests here share: the client, and what the engine of openai_engine.py answers.
import OpenAI from 'openai';

export const MODEL = 'test-model';
export const TEXT = 'The quick naïve 狐 🦊 jumps\nover "lazy" dogs.';
export const TOKENS = 11;

export const client = new OpenAI({
  baseURL: process.env.OPENAI_TEST_URL,
  apiKey: 'sk-test',
  maxRetries: 0,
  timeout: 30_000,
});

export async function all(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}
