import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.concurrent.Executors;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * A shop front on a real JVM. Nothing in it pretends to be slow: its first pages load classes and run in the interpreter,
 * until what they need is compiled. Like many programs it ends at once on SIGTERM.
 */
public final class Shop {
    private static final int PORT = 8080;
    private static final int THREADS = 8;
    private static final int ITEMS = 150;
    private static final Pattern WORD = Pattern.compile("(?<first>\\p{Alpha})(?<rest>\\p{Alpha}*)");

    private record Item(String name, long cents) {}

    private Shop() {}

    public static void main(String[] arguments) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress(PORT), 0);
        server.setExecutor(Executors.newFixedThreadPool(THREADS));
        server.createContext("/ready", exchange -> answer(exchange, "yes\n"));
        server.createContext("/live", exchange -> answer(exchange, "yes\n"));
        server.createContext("/page", exchange -> answer(exchange, page()));
        server.start();
        System.err.println("listening");
    }

    /** The catalogue, by price. */
    private static String page() {
        return IntStream.range(0, ITEMS)
            .mapToObj(Shop::item)
            .sorted(Comparator.comparingLong(Item::cents).thenComparing(Item::name))
            .map(item -> String.format("%s\t%,d.%02d", item.name(), item.cents() / 100, item.cents() % 100))
            .collect(Collectors.joining("\n", "a page of " + System.getenv("RELEASE") + "\n", "\n"));
    }

    private static Item item(int number) {
        byte[] digest = digest("item " + number);
        String words = HexFormat.ofDelimiter(" ").formatHex(digest, 0, 6);
        String name = WORD.matcher(words).replaceAll(word -> word.group(1).toUpperCase() + word.group(2));
        return new Item(name, Math.floorMod(digest[6] * 31L + digest[7], 100_000L));
    }

    private static byte[] digest(String text) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
        } catch (NoSuchAlgorithmException impossible) {
            throw new AssertionError("every Java platform has SHA-256", impossible);
        }
    }

    private static void answer(HttpExchange exchange, String text) throws IOException {
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        try (exchange) {
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
        }
    }
}
