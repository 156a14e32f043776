namespace Pandora.E2b.Connect;

/// <summary>An error of a call.</summary>
/// <param name="Code">Name of the code.</param>
/// <param name="Message">What is wrong.</param>
internal sealed record ConnectError(string Code, string Message);

/// <summary>The last message of a stream.</summary>
/// <param name="Error">Why the stream failed; null when it did not.</param>
internal sealed record EndOfStream(ConnectError? Error = null);

/// <summary>A message without members.</summary>
internal sealed record Empty;
