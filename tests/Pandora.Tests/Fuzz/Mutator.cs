using System.Text;

namespace Pandora.Tests.Fuzz;

/// <summary>Damages valid bytes: flips, cuts, doubles and inserts bytes, and inserts texts that are hard to parse.</summary>
internal sealed class Mutator(int seed)
{
    private static readonly byte[][] Stumbling =
    [
        .. new[]
        {
            "null",
            "-1",
            "1e999",
            "NaN",
            "0.1e-400",
            "\"",
            "\\",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "true",
            "\"\\ud800\"",
            "\0",
            "99999999999999999999",
            "\r\n",
            "\r\n\r\n",
            "Content-Length: 99999999999\r\n",
            "HTTP/1.1 204 \r\n",
            new string('[', 200),
            new string('9', 400),
        }.Select(Encoding.UTF8.GetBytes),
        [0xFF, 0xFE],
        [0xC0, 0x80],
        [0xED, 0xA0, 0x80],
        [0xF0, 0x9F],
    ];

    private readonly Random _random = new(seed);

    /// <summary>Returns a damaged copy. Sometimes the copy is unchanged, so that the code after the parser runs as well.</summary>
    public byte[] Damage(byte[] valid)
    {
        var bytes = valid.ToList();
        for (var i = _random.Next(0, 5); i > 0 && bytes.Count > 0; i--)
        {
            var at = _random.Next(bytes.Count);
            switch (_random.Next(6))
            {
                case 0:
                    bytes[at] ^= (byte)(1 << _random.Next(8));
                    break;
                case 1:
                    bytes.RemoveRange(at, Math.Min(_random.Next(1, 20), bytes.Count - at));
                    break;
                case 2:
                    bytes.InsertRange(at, bytes.GetRange(at, Math.Min(_random.Next(1, 40), bytes.Count - at)));
                    break;
                case 3:
                    bytes.InsertRange(at, Enumerable.Range(0, _random.Next(1, 16)).Select(_ => (byte)_random.Next(256)));
                    break;
                case 4:
                    bytes.RemoveRange(at, bytes.Count - at);
                    break;
                default:
                    bytes.InsertRange(at, Stumbling[_random.Next(Stumbling.Length)]);
                    break;
            }
        }

        return [.. bytes];
    }

    /// <summary>Picks one of several byte sequences.</summary>
    public T Pick<T>(IReadOnlyList<T> of) => of[_random.Next(of.Count)];
}
